"""``python -m crid``."""

import sys

from sampan.service.lean import lean_imports

with lean_imports():
    from crid.main import main

sys.exit(main())
