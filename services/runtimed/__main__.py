"""Lets ``python -m runtimed`` run the service."""

import sys

from sampan.service.lean import lean_imports

with lean_imports():
    from runtimed.main import main

sys.exit(main())
