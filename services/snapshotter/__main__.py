"""``python -m snapshotter``."""

import sys

from snapshotter.main import main

sys.exit(main())
