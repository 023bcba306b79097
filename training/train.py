"""The door to training: `python training/train.py --help`."""

import sys

from training.cli import main

if __name__ == "__main__":
    sys.exit(main())
