"""A registry in memory that takes images, and refuses them in every way that a test asks for."""

import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

_BLOB = re.compile(r"/v2/(.+)/blobs/(sha256:[0-9a-f]+)")
_BEGIN = re.compile(r"/v2/(.+)/blobs/uploads/")
_UPLOAD = re.compile(r"/v2/(.+)/blobs/uploads/(\d+)")
_MANIFEST = re.compile(r"/v2/(.+)/manifests/(.+)")


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass
class Refuse:
    """An error answer to the next ``times`` requests of a method whose path holds ``path``."""

    method: str
    path: str
    status: int
    code: str = ""
    message: str = ""
    times: int = 1


@dataclass
class PushRegistry:
    """See ``running``."""

    tokens: bool = False  # ask for bearer tokens
    mounts: bool = True  # take cross-repository mounts
    grants: Callable[[str], bool] = lambda _: True  # which scopes a token is good for
    blobs: dict[str, dict[str, bytes]] = field(default_factory=dict)  # by repository
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    refusals: list[Refuse] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)  # method and path
    hang_up_after: list[int] = field(default_factory=list)  # bytes of the next bodies; then the connection is cut
    expire_at: int = 0  # the number of the request that finds all tokens expired
    exaggerate: int = 0  # bytes more than there are, when asked how far an upload is
    report_digest: str = ""  # say this of what was stored
    on_manifest: Callable[[], object] = lambda: None
    address: str = ""
    _uploads: dict[str, bytearray] = field(default_factory=dict)
    _given: dict[str, list[str]] = field(default_factory=dict)  # scopes by token

    @asynccontextmanager
    async def running(self) -> AsyncIterator["PushRegistry"]:
        """Serve on a loopback port until the block ends."""
        runner = web.ServerRunner(web.Server(self._handle))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    def count(self, method: str, part: str) -> int:
        """Return how many requests of a method had ``part`` in their path."""
        return sum(line.startswith(f"{method} ") and part in line for line in self.requests)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        if request.path == "/token":
            return self._token(request)
        for refusal in self.refusals:
            if refusal.times and refusal.method == request.method and refusal.path in request.path:
                refusal.times -= 1
                return _error(refusal.status, refusal.code, refusal.message)
        denied = self._check(request)
        return denied if denied is not None else await self._answer(request)

    def _token(self, request: web.BaseRequest) -> web.Response:
        scopes = [scope for scope in request.query["scope"].split(" ") if self.grants(scope)]
        name = f"token{len(self._given)}"
        self._given[name] = scopes
        return web.json_response({"token": name, "expires_in": 3600})

    def _check(self, request: web.BaseRequest) -> web.Response | None:
        if not self.tokens:
            return None
        if len(self.requests) == self.expire_at:
            self._given = {name: [] for name in self._given}
        shown = request.headers.get("Authorization", "").removeprefix("Bearer ")
        scopes = self._given.get(shown, [])
        repository = re.sub(r"^/v2/(.*)/(blobs|manifests)/.*$", r"\1", request.path)
        action = "pull" if request.method in ("GET", "HEAD") else "push"
        allowed = any(
            scope.startswith(f"repository:{repository}:") and action in scope.rpartition(":")[2] for scope in scopes
        )
        if allowed:
            return None
        challenge = f'Bearer realm="http://{self.address}/token",service="tests"'
        if shown in self._given and self.expire_at == 0:
            challenge += ',error="insufficient_scope"'
        answer = _error(401, "UNAUTHORIZED", "authentication required")
        answer.headers["WWW-Authenticate"] = challenge
        return answer

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if match := _UPLOAD.fullmatch(path):
            return await self._upload(request, match[1], match[2])
        if match := _BEGIN.fullmatch(path):
            return self._begin(request, match[1])
        if match := _BLOB.fullmatch(path):
            return web.Response(status=200 if match[2] in self.blobs.get(match[1], {}) else 404)
        if (match := _MANIFEST.fullmatch(path)) and request.method == "PUT":
            content = await request.read()
            self.manifests[match[1], match[2]] = request.headers["Content-Type"], content
            self.on_manifest()
            return web.Response(status=201, headers={"Docker-Content-Digest": self.report_digest or sha256(content)})
        return web.Response(status=200 if path == "/v2/" else 404)

    def _begin(self, request: web.BaseRequest, repository: str) -> web.Response:
        mount, source = request.query.get("mount", ""), request.query.get("from", "")
        if self.mounts and mount in self.blobs.get(source, {}):
            self.blobs.setdefault(repository, {})[mount] = self.blobs[source][mount]
            return web.Response(status=201)
        name = str(len(self._uploads))
        self._uploads[name] = bytearray()
        return web.Response(status=202, headers={"Location": f"/v2/{repository}/blobs/uploads/{name}?state=1"})

    async def _upload(self, request: web.BaseRequest, repository: str, name: str) -> web.StreamResponse:
        received = self._uploads.get(name)
        if received is None:
            return _error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        state = {"Location": request.path_qs, "Range": f"0-{max(0, len(received) - 1)}"}
        if request.method == "GET":
            state["Range"] = f"0-{max(0, len(received) + self.exaggerate - 1)}"
            return web.Response(status=204, headers=state)
        most = self.hang_up_after.pop(0) if self.hang_up_after else None
        async for piece in request.content.iter_any():
            received += piece
            if most is not None and len(received) >= most:
                assert request.transport is not None
                request.transport.abort()
                raise ConnectionResetError
        if request.method == "PATCH":
            return web.Response(status=202, headers={**state, "Range": f"0-{len(received) - 1}"})
        digest = request.query["digest"]
        if sha256(bytes(received)) != digest:
            return _error(400, "DIGEST_INVALID", "provided digest did not match uploaded content")
        self.blobs.setdefault(repository, {})[digest] = bytes(received)
        del self._uploads[name]
        return web.Response(status=201, headers={"Docker-Content-Digest": digest})

    def forget_uploads(self) -> None:
        """Lose what has been uploaded in part."""
        self._uploads.clear()


def _error(status: int, code: str, message: str) -> web.Response:
    body = json.dumps({"errors": [{"code": code, "message": message}]}) if code else "not JSON"
    return web.Response(status=status, text=body)
