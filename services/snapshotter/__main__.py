"""``python -m snapshotter``."""

import sys

from sampan.service.lean import lean_imports

with lean_imports():
    from snapshotter.main import main

sys.exit(main())
