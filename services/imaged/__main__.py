"""``python -m imaged``."""

import sys

from imaged.main import main

sys.exit(main())
