"""``python -m dockerapi``."""

import sys

from dockerapi.main import main

if __name__ == "__main__":
    sys.exit(main())
