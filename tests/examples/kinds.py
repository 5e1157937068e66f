"""The Dockerfiles below examples/dockerfiles, what an image of each says, and what their builds need."""

import contextlib
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.trees import ROOT

EXAMPLES: Final = ROOT / "examples"
TOKEN: Final = "a token that opens"


@dataclass(frozen=True, slots=True)
class Kind:
    """An example, and what an image of it says."""

    name: str
    base: str
    says: str


KINDS: Final = (
    Kind("c-scratch", "debian:12", "hello, world, from user 65534\n"),
    Kind("python-requirements", "debian:12", "six 1.16.0 as user 900\n"),
    Kind("node-lock", "debian:12", "1: true, one: false\n"),
    Kind("apt-cache", "debian:12", "jq works\n"),
    Kind("ssh-key", "debian:12", "-----BEGIN SSH SIGNATURE-----\n"),
    Kind("secret-token", "busybox:1", f"licence for Bearer {TOKEN}\n1:1 440\n"),
    Kind(
        "heredocs",
        "busybox:1",
        "page 1\npage 2\npage 3\nroot\ndaemon\nnobody\nnot expanded: ${GREETING}\ngreeting=hello\none\ntwo\n",
    ),
    Kind("onbuild", "busybox:1", "MADE BY TRIGGERS\n"),
    Kind("copy-link", "busybox:1", "<h1>linked</h1>\nlevel = 1\n"),
    Kind("many-files", "busybox:1", "30010\n"),
)


def copy_of(kind: Kind, directory: Path) -> Path:
    """Copy the directory of an example, complete it, and return the copy."""
    context = Path(shutil.copytree(EXAMPLES / "dockerfiles" / kind.name, directory / kind.name))
    if (context / "generate").exists():
        subprocess.run([context / "generate"], check=True)
    return context


class _Licences(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the module's way to name it
        login = self.headers.get("Authorization", "")
        self.send_response(200 if login == f"Bearer {TOKEN}" else 401)
        self.end_headers()
        self.wfile.write(f"licence for {login}\n".encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def licences(address: str) -> Iterator[str]:
    """Run a server that wants the token; return its URL."""
    with http.server.ThreadingHTTPServer((address, 0), _Licences) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://{address}:{listening.server_port}"
        listening.shutdown()
        thread.join()
