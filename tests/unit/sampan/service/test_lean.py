import gc
import importlib.metadata
import os
import py_compile
import ssl
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from sampan.service import lean
from sampan.service.lean import without_certificates, without_collection

SCRIPT = """
import sys
from sampan.service.lean import lean_imports

with lean_imports():
    import html
    import locale, subprocess, http.server
    from google.protobuf import descriptor_pool, timestamp_pb2

def loaded(module):
    return "__file__" in vars(sys.modules[module])

late = ("html", "locale", "tokenize", "google.protobuf.internal.python_message")
assert not any(map(loaded, late)), [name for name in late if loaded(name)]
assert timestamp_pb2.Timestamp.FromString(timestamp_pb2.Timestamp(seconds=5).SerializeToString()).seconds == 5
assert "google.protobuf.text_format" not in sys.modules

# Each way to use one loads it.
assert html.escape("<") == "&lt;" and loaded("html")
from locale import getpreferredencoding
assert getpreferredencoding() and loaded("locale")
import html.entities
assert html.entities.name2codepoint["amp"] == ord("&") and html.unescape("&amp;") == "&"
from google.protobuf.internal import python_message
assert isinstance(python_message.GeneratedProtocolMessageType, type)
assert subprocess.run(["echo", "text"], capture_output=True, text=True).stdout == "text\\n"
try:
    html.no_such_thing
except AttributeError as error:
    assert "no_such_thing" in str(error)
"""

PACKAGE = """
import sys
from sampan.service.lean import lean_imports

with lean_imports():
    import aiohttp
    from aiohttp import web
    from aiohttp.http import HttpVersion11

heavy = {"aiohttp.client", "aiohttp.connector", "aiohttp.tracing"}
assert not heavy & set(sys.modules)
assert web.Response(text="x").status == 200 and aiohttp.web is web

from aiohttp import ClientSession
assert heavy <= set(sys.modules)
assert aiohttp.ClientSession is ClientSession and aiohttp.web is web and aiohttp.HttpVersion11 is HttpVersion11
assert sys.modules["aiohttp"] is aiohttp and aiohttp.http.SERVER_SOFTWARE.endswith(f"aiohttp/{aiohttp.__version__}")
try:
    aiohttp.no_such_thing
except AttributeError as error:
    assert "no_such_thing" in str(error)
"""


def test_a_package_is_loaded_when_more_than_its_modules_is_wanted() -> None:
    result = subprocess.run([sys.executable, "-c", PACKAGE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_what_is_seldom_used_is_loaded_when_it_is_used() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("with_sources", [True, False])
@pytest.mark.parametrize(
    ("source", "version"),
    [
        ('__version__ = "3.14.5"\n', "3.14.5"),
        ('"""Text."""\nimport sys\nname = "x"\n__version__ = "4.0.0a1"\n', "4.0.0a1"),
        ('__version__ = "1.0"\nother = "2.0"\n', ""),
        ('__version__ = ".".join(("1", "0"))\n', ""),
        ('other = "1.0"\n', ""),
    ],
)
def test_version_of_a_package_is_read_from_what_was_compiled(
    tmp_path: Path, source: str, version: str, with_sources: bool
) -> None:
    """A package of ours has no sources of what is not ours."""
    module = tmp_path / "thing/__init__.py"
    module.parent.mkdir()
    module.write_text(source)
    if not with_sources:
        py_compile.compile(str(module), str(module.with_suffix(".pyc")))
        module.unlink()
    spec = PathFinder.find_spec("thing", [str(tmp_path)])
    assert spec is not None
    assert lean._version_of(spec) == version


def test_package_that_is_served_by_has_a_version_that_can_be_read() -> None:
    spec = PathFinder.find_spec(lean._PACKAGE)
    assert spec is not None
    assert lean._version_of(spec) == importlib.metadata.version(lean._PACKAGE)


@pytest.mark.parametrize("before", [None, "/some/certificates.pem"])
def test_certificates_are_hidden_for_a_while(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if before is None:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    else:
        monkeypatch.setenv("SSL_CERT_FILE", before)
    with without_certificates():
        assert ssl.create_default_context().cert_store_stats()["x509"] == 0
    assert os.environ.get("SSL_CERT_FILE") == before


def test_nothing_is_collected_for_a_while() -> None:
    assert gc.isenabled()
    with without_collection():
        assert not gc.isenabled()
        with without_collection():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
