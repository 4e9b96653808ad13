"""Open BlockSkip Studio. `./launch.sh` (or launch.bat) first sets up the environment."""

import sys

from blockskip.cli.app import main

if __name__ == "__main__":  # on Windows the trainer's process imports this file again
    sys.argv[1:1] = ["studio"]
    sys.exit(main())
