"""The door to training: `python training/train.py --help`."""

import signal
import sys

from training.cli import main
from training.processor import use_onednn

if __name__ == "__main__":
    use_onednn()
    # As Ctrl-C does: what is half made goes away, and how to go on is said.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
