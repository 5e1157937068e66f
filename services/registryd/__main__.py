"""``python -m registryd``."""

import sys

from sampan.service.lean import without_certificates

with without_certificates():
    from registryd.main import main

if __name__ == "__main__":
    sys.exit(main())
