"""Opens BlockSkip Studio. `./launch.sh` (or launch.bat) does the same and sets everything up
first."""

import sys

from blockskip.studio.app import main

if __name__ == "__main__":  # on Windows the trainer's process imports this file again
    sys.exit(main())
