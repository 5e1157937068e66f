"""Say which versions are here."""

import os

import six

print(f"six {six.__version__} as user {os.getuid()}")
