"""``python -m imaged``."""

import sys

from sampan.service.lean import lean_imports

with lean_imports():
    from imaged.main import main

sys.exit(main())
