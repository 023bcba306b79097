"""The door to training: `python training/train.py --help`."""

import sys

from training import stop
from training.cli import main
from training.processor import use_onednn

if __name__ == "__main__":
    use_onednn()
    stop.listen()
    sys.exit(main())
