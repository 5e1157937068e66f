"""A registry that does as a test tells it: wrong, slow, broken or behind bearer tokens."""

import contextlib
import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.images import Image, sha256

TOKEN = "a-token-of-the-tests"


@dataclass(slots=True)
class WebRegistry:
    """What it serves, and how. Change it while it runs."""

    address: str = ""
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # "repository/tag": media type, content
    blobs: dict[str, bytes] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)  # blobs of which only the first half arrives
    held: dict[str, threading.Event] = field(default_factory=dict)  # blobs whose second half waits for this
    reached: threading.Event = field(default_factory=threading.Event)  # set when a held blob is waited for
    login: tuple[str, str] | None = None  # asked for by bearer token
    found: list[dict[str, Any]] | None = None  # what a search finds; None: it offers none
    requests: list[str] = field(default_factory=list)

    def add(self, repository: str, tag: str, image: Image) -> str:
        """Serve ``image``; return what to pull."""
        config, manifest = image.config_blob(), image.manifest()
        self.blobs[sha256(config)] = config
        for each in image.layers:
            assert isinstance(each.blob, bytes)
            self.blobs[sha256(each.blob)] = each.blob
        for name in (tag, sha256(manifest)):
            self.manifests[f"{repository}/{name}"] = (image.media_type, manifest)
        return f"{self.address}/{repository}:{tag}"


@contextlib.contextmanager
def run_web_registry() -> Iterator[WebRegistry]:
    """Serve on a free loopback port until the block ends."""
    registry = WebRegistry()

    class Handler(_Handler):
        served = registry

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    registry.address = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield registry
    finally:
        for event in registry.held.values():
            event.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    served: WebRegistry
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing on standard error."""

    def _answer(self, *, body: bool) -> None:
        registry = self.served
        registry.requests.append(f"{self.command} {self.path}")
        if self.path.startswith("/token"):
            self._token()
            return
        if registry.login and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            realm = f'Bearer realm="http://{registry.address}/token",service="tests"'
            self._send(401, _error("UNAUTHORIZED", "authentication required"), {"WWW-Authenticate": realm}, body=body)
            return
        if self.path.startswith("/v1/search?") and registry.found is not None:
            self._send(200, json.dumps({"results": registry.found}).encode(), {}, body=body)
            return
        parts = self.path.removeprefix("/v2/").split("/")
        if parts == [""]:
            self._send(200, b"{}", {}, body=body)
        elif parts[-2] == "manifests" and (found := registry.manifests.get("/".join([*parts[:-2], parts[-1]]))):
            media_type, content = found
            headers = {"Content-Type": media_type, "Docker-Content-Digest": sha256(content)}
            self._send(200, content, headers, body=body)
        elif parts[-2] == "blobs" and parts[-1] in registry.blobs:
            self._blob(parts[-1], body=body)
        else:
            kind = "MANIFEST" if parts[-2] == "manifests" else "BLOB"
            self._send(404, _error(f"{kind}_UNKNOWN", f"{kind.lower()} unknown"), {}, body=body)

    def _token(self) -> None:
        login = self.served.login
        expected = "Basic " + b64encode(":".join(login).encode()).decode() if login else None
        if self.headers.get("Authorization") == expected:
            self._send(200, json.dumps({"token": TOKEN}).encode(), {"Content-Type": "application/json"}, body=True)
        else:
            self._send(401, _error("UNAUTHORIZED", "incorrect username or password"), {}, body=True)

    def _blob(self, digest: str, *, body: bool) -> None:
        registry, content = self.served, self.served.blobs[digest]
        begin = 0
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes="):
            begin = int(wanted.removeprefix("bytes=").split("-")[0])
        half = max(begin, len(content) // 2)
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not body:
            return
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content[begin:half])
            self.wfile.flush()
            if digest in registry.cut:
                self.close_connection = True
                return
            if event := registry.held.get(digest):
                registry.reached.set()
                event.wait(600)
            self.wfile.write(content[half:])

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content)


def _error(code: str, message: str) -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()
