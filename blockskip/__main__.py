"""Run the command line with `python -m blockskip …`."""

import sys

from blockskip.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
