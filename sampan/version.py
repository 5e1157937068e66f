"""The version of the engine and of everything that comes with it; the same as in pyproject.toml."""

from typing import Final

VERSION: Final = "0.1.0"
