"""``python -m registryd``."""

import sys

from sampan.service.lean import lean_imports

with lean_imports():
    from registryd.main import main

if __name__ == "__main__":
    sys.exit(main())
