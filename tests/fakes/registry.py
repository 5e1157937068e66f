"""A registry in memory that behaves, and misbehaves where a test tells it to.

It speaks the pull half of the distribution API on a loopback port of its own, with basic or token authentication.
"""

import asyncio
import base64
import gzip
import hashlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

TOKEN = "a-good-token"
REFRESH_TOKEN = "a-refresh-token"

_PIECE_BYTES = 64 << 10


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Fault:
    """What happens instead of a good answer, to the next ``times`` requests whose path holds ``path``."""

    path: str
    times: int = 1
    status: int = 0  # answer with this status
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None  # send so many bytes of the body, then hang up
    stall_after: int | None = None  # send so many bytes, then nothing until `resume` is set
    replace: Callable[[bytes], bytes] | None = None  # send something else of the content
    content_type: str = ""
    ignore_range: bool = False
    content_range: str = ""  # say this of a range
    drip_s: float = 0.0  # send a byte, wait so long, and so on


class FakeRegistry:
    """See ``running``."""

    def __init__(
        self, *, auth: str = "", users: Mapping[str, str] | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.auth = auth  # "", "basic" or "token"
        self.tls = tls
        self.users = dict(users or {})
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.lists: dict[str, tuple[Any, dict[str, str]]] = {}  # of referrers: index and headers, by path with query
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, Mapping[str, str]]] = []  # method, path with query, headers
        self.realm = ""
        self.token_answer: dict[str, Any] | None = None
        self.tokens_given = 0
        self.good_tokens = {TOKEN}
        self.insufficient_scope = False
        self.ignore_ranges = False
        self.piece_delay_s = 0.0  # between pieces of a body of 64 KiB
        self.served: dict[str, int] = {}  # bytes of bodies by the last part of their path
        self.most_allowed = 99  # of these; others get a 429
        self.sending = self.most_sending = 0  # bodies of blobs at the same time
        self.searched: Any = None  # the answer to searches; None: it offers none
        self.resume = asyncio.Event()
        self._asked = asyncio.Condition()
        self.address = ""

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    @property
    def largest(self) -> str:
        """Digest of the largest blob: the layer that a test is about."""
        return max(self.blobs, key=lambda digest: len(self.blobs[digest]))

    def paths(self, part: str) -> list[str]:
        """Return the paths of requests that hold ``part``, in order."""
        return [path for _, path, _ in self.requests if part in path]

    async def asked(self, part: str, times: int = 1) -> None:
        """Return once there were so many requests whose path holds ``part``."""
        async with asyncio.timeout(60), self._asked:
            await self._asked.wait_for(lambda: len(self.paths(part)) >= times)

    def add_blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        digest = sha256(data)
        self.blobs[digest] = data
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def add_manifest(self, repository: str, tag: str, document: Any, media_type: str) -> dict[str, Any]:
        """Serve ``document`` by tag (if there is one) and by digest; bytes are served as they are."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        digest = sha256(data)
        for reference in (tag, digest) if tag else (digest,):
            self.manifests[repository, reference] = (media_type, data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}

    def add_image(self, repository: str, tag: str, *contents: bytes, **changes: Any) -> dict[str, Any]:
        """Serve an image whose layers hold ``contents``; ``changes`` replace members of the config."""
        layers = [self.add_blob(gzip.compress(content, 1, mtime=0), DOCKER_LAYER_GZIP) for content in contents]
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/true"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(content) for content in contents]},
        } | changes
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": self.add_blob(json.dumps(config).encode(), DOCKER_CONFIG),
            "layers": layers,
        }
        return self.add_manifest(repository, tag, manifest, DOCKER_MANIFEST)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, dict(request.headers)))
        async with self._asked:
            self._asked.notify_all()
        fault = next((fault for fault in self.faults if fault.times > 0 and fault.path in request.path), None)
        if fault is not None:
            fault.times -= 1
            if fault.status:
                return web.Response(status=fault.status, headers=dict(fault.headers), body=fault.body)
        if "/blobs/" in request.path and self.sending >= self.most_allowed:
            return _error(429, "TOOMANYREQUESTS", "one after the other, please")
        if request.path == "/token":
            return await self._token(request)
        if request.path == "/v1/search" and self.searched is not None:
            return web.json_response(self.searched)
        if not self._authorised(request):
            return self._challenge(request)
        if request.path == "/v2/":
            return web.json_response({})
        return await self._content(request, fault or Fault("", 0))

    def _authorised(self, request: web.Request) -> bool:
        given = request.headers.get("Authorization", "")
        if self.auth == "basic":
            return given in {_basic(name, password) for name, password in self.users.items()}
        if self.auth == "token":
            return given.removeprefix("Bearer ") in self.good_tokens
        return True

    def _challenge(self, request: web.Request) -> web.Response:
        if self.auth == "basic":
            challenge = 'Basic realm="tests"'
        else:
            realm = self.realm or f"{self.url}/token"
            challenge = f'Bearer realm="{realm}",service="tests",scope="repository:x:pull"'
            if self.insufficient_scope and "Authorization" in request.headers:
                challenge += ',error="insufficient_scope"'
        body = {"errors": [{"code": "UNAUTHORIZED", "message": "authentication required"}]}
        return web.json_response(body, status=401, headers={"WWW-Authenticate": challenge})

    async def _token(self, request: web.Request) -> web.Response:
        self.tokens_given += 1
        if request.method == "POST":
            form = await request.post()
            if form.get("refresh_token") != REFRESH_TOKEN or form.get("grant_type") != "refresh_token":
                return web.json_response({"details": "invalid refresh token"}, status=401)
            return web.json_response(self.token_answer or {"access_token": TOKEN})
        given = request.headers.get("Authorization")
        if given is not None and given not in {_basic(name, word) for name, word in self.users.items()}:
            return web.json_response({"details": "incorrect username or password"}, status=401)
        answer = self.token_answer or {"token": TOKEN}
        if request.query.get("offline_token"):
            answer = answer | {"refresh_token": REFRESH_TOKEN}
        return web.json_response(answer)

    async def _content(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if request.path_qs in self.lists:
            listed, headers = self.lists[request.path_qs]
            return web.json_response(listed, headers=headers, content_type=OCI_INDEX)
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", request.path)
        if match is None:
            return _error(404, "UNSUPPORTED", "what is this")
        repository, kind, reference = match.groups()
        if kind == "manifests":
            media_type, data = self.manifests.get((repository, reference), ("", b""))
            if not media_type:
                return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        else:
            media_type, data = "application/octet-stream", self.blobs.get(reference, b"")
            if reference not in self.blobs:
                return _error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        if fault.replace is not None:
            data = fault.replace(data)
        return await self._send(request, fault.content_type or media_type, data, fault)

    async def _send(self, request: web.Request, media_type: str, data: bytes, fault: Fault) -> web.StreamResponse:
        headers = {"Content-Type": media_type}
        status, start = 200, 0
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        end = len(data)
        if wanted and not (fault.ignore_range or self.ignore_ranges):
            status, start = 206, int(wanted[1])
            end = min(end, int(wanted[2]) + 1) if wanted[2] else end
            headers["Content-Range"] = fault.content_range or f"bytes {start}-{end - 1}/{len(data)}"
        body = data[start:end]
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        if fault.drip_s:
            for position in range(len(body)):
                await response.write(body[position : position + 1])
                await asyncio.sleep(fault.drip_s)
        stop = fault.cut_after if fault.cut_after is not None else fault.stall_after
        await self._write(request, response, body[:stop])
        if fault.cut_after is not None:
            await asyncio.sleep(0.01)  # let what was written leave first
            assert request.transport is not None
            request.transport.close()
            return response
        if fault.stall_after is not None:
            await self.resume.wait()
            await self._write(request, response, body[stop:])
        await response.write_eof()
        return response

    async def _write(self, request: web.Request, response: web.StreamResponse, body: bytes) -> None:
        what = request.path.rpartition("/")[2]
        self.sending += "/blobs/" in request.path
        self.most_sending = max(self.most_sending, self.sending)
        try:
            for start in range(0, len(body), _PIECE_BYTES):
                piece = body[start : start + _PIECE_BYTES]
                await response.write(piece)
                self.served[what] = self.served.get(what, 0) + len(piece)
                if self.piece_delay_s:
                    await asyncio.sleep(self.piece_delay_s)
        except ConnectionError:
            return  # the other side has left
        finally:
            self.sending -= "/blobs/" in request.path

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FakeRegistry"]:
        """Serve on a free port of 127.0.0.1 until the block ends."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self.handle)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self.tls).start()
            host, port = runner.addresses[0][:2]
            self.address = f"{host}:{port}"
            yield self
        finally:
            self.resume.set()
            await runner.cleanup()


def _basic(name: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}"


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"errors": [{"code": code, "message": message}]}, status=status)
