"""What libraries load at their import, and our services never or seldom use, is left out of memory."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Final

# A megabyte and a half of each service. Nobody takes anything from these while importing; ``import`` is all they do.
_SELDOM_USED: Final = (
    "google.protobuf.internal.python_message",  # messages without the C extension, and all that they need
    "html",  # for the error pages of http.server; has a table of all entities
    "idna",  # for host names beyond ASCII
    "locale",  # for processes whose pipes carry text
    "tokenize",  # for source lines in tracebacks
)


@contextlib.contextmanager
def lean_imports() -> Iterator[None]:
    """Import a service inside of this: what is seldom used is loaded when it is first used, and no certificates."""
    for name in _SELDOM_USED:
        _defer(name)
    with without_certificates():
        yield


@contextlib.contextmanager
def without_certificates() -> Iterator[None]:
    """Let OpenSSL find no certificates meanwhile.

    aiohttp makes two TLS contexts when it is imported and reads all of the system's certificates into both: 2 MB and
    120 ms for defaults that a server never needs; our client of registries has contexts of its own.
    """
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = os.devnull
    try:
        yield
    finally:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before


class _Deferred(ModuleType):
    """Stands for a module until somebody wants something of it.

    importlib.util.LazyLoader is meant for this, but up to Python 3.11 its modules are loaded by the second ``import``
    of them already, which asks for their ``__spec__``.
    """

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # asked by the import system
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        module = importlib.import_module(self.__name__)
        vars(self).update((key, value) for key, value in vars(module).items() if not key.startswith("__"))
        return getattr(module, name)


def _defer(name: str) -> None:
    if name in sys.modules:
        return
    try:
        spec = find_spec(name)
    except ImportError:  # of a package that is not installed
        return
    if spec is None:
        return
    module = _Deferred(name)
    module.__spec__ = spec
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
    sys.modules[name] = module
