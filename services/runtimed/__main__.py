"""Lets ``python -m runtimed`` run the service."""

import sys

from runtimed.main import main

sys.exit(main())
