"""``python -m dockerapi``."""

import sys

from sampan.service.lean import lean_imports

with lean_imports():
    from dockerapi.main import main

if __name__ == "__main__":
    sys.exit(main())
