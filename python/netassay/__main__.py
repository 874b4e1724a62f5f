"""`python -m netassay` is the command `netassay`."""

import sys

from netassay.cli import main

if __name__ == "__main__":
    sys.exit(main())
