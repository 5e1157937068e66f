"""``python -m dockerapi``."""

import sys

from sampan.service.lean import without_certificates

with without_certificates():
    from dockerapi.main import main

if __name__ == "__main__":
    sys.exit(main())
