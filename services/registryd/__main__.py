"""``python -m registryd``."""

import sys

from registryd.main import main

if __name__ == "__main__":
    sys.exit(main())
