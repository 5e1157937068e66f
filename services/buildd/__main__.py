"""``python -m buildd``."""

import sys

from sampan.service.lean import lean_imports

with lean_imports():
    from buildd.main import main

sys.exit(main())
