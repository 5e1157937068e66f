"""What libraries load at their import, and our services never or seldom use, is left out of memory."""

import contextlib
import gc
import importlib
import os
import re
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader, SourcelessFileLoader
from importlib.util import find_spec, module_from_spec
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


# Imports its client, 3 MB and two TLS contexts, for whoever wants to serve. Its modules know each other by their names,
# and of the package itself only what version it is.
_PACKAGE: Final = "aiohttp"
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+[0-9a-z.]*")


@contextlib.contextmanager
def lean_imports() -> Iterator[None]:
    """Import a service inside of this: what is seldom used is loaded when it is first used, and no certificates.

    Dataclasses are defined in the lean way, see there.
    """
    for name in _SELDOM_USED:
        _defer(name)
    _defer_package(_PACKAGE)
    with without_collection():
        from sampan.service.lean_dataclasses import lean_dataclasses  # loads what was just deferred, but for that

        with without_certificates(), lean_dataclasses():
            yield


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Look for no garbage meanwhile.

    Next to nothing of what an import makes is any, and all of it would be looked at again and again: a twelfth of the
    processor's time of a service's imports.
    """
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextlib.contextmanager
def without_certificates() -> Iterator[None]:
    """Let OpenSSL find no certificates meanwhile.

    aiohttp's client makes two TLS contexts when it is imported and reads all of the system's certificates into both:
    2 MB and 120 ms for defaults that a server never needs; our client of registries has contexts of its own.
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


class _DeferredPackage(ModuleType):
    """A package whose modules can be imported without what it imports, until somebody wants something of that."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # asked by the import system
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        # ``from package import module`` asks here first.
        if find_spec(f"{self.__name__}.{name}") is not None:
            return importlib.import_module(f"{self.__name__}.{name}")
        self.__class__ = ModuleType  # type: ignore[assignment]  # from here on it is like any other
        assert self.__spec__ is not None
        assert self.__spec__.loader is not None
        with without_certificates():
            self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _defer_package(name: str) -> None:
    spec = find_spec(name) if name not in sys.modules else None
    if spec is None or spec.origin is None:
        return
    version = _version_of(spec)
    if not version:  # it is written in another way now: then it is loaded as it is
        return
    package = module_from_spec(spec)
    vars(package)["__version__"] = version
    package.__class__ = _DeferredPackage
    sys.modules[name] = package


def _version_of(spec: ModuleSpec) -> str:
    """Return what a package's code calls its version; empty: nobody can tell without running it.

    Read from what was compiled: a package of ours has nothing else of what is not ours.
    """
    if not isinstance(spec.loader, SourceFileLoader | SourcelessFileLoader):
        return ""
    code = spec.loader.get_code(spec.name)
    if code is None or "__version__" not in code.co_names:
        return ""
    found = [const for const in code.co_consts if isinstance(const, str) and _VERSION.fullmatch(const)]
    return found[0] if len(found) == 1 else ""
