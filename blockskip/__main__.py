"""`python -m blockskip …` is the command line."""

import sys

from blockskip.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
