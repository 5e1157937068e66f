"""One request, as the handlers see it, and the forms that answers take."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from aiohttp import web

from dockerapi.backend import (
    Backend,
    ContainerBackend,
    ContainerControl,
    ExecBackend,
    FileBackend,
    HostBackend,
    ImageBackend,
    NetworkBackend,
    SystemBackend,
    VolumeBackend,
)
from dockerapi.http import versions
from dockerapi.http.decode import decode, shown, well_formed
from dockerapi.http.encode import encode
from dockerapi.http.fields import INT32, INT64
from dockerapi.http.versions import Version
from sampan.docker.booleans import query_bool
from sampan.engine.following import Followed
from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject
from sampan.log import log
from sampan.resource.container_spec import ContainerSpec
from sampan.resource.listing import Filters as ServiceFilters
from sampan.version import VERSION

# A create body with inlined seccomp profiles is a few hundred KiB.
MAX_BODY_BYTES: Final = 16 << 20

# On every answer, errors included: old clients negotiate by them.
HEADERS: Final = {
    "Api-Version": versions.text(versions.NEWEST),
    "Docker-Experimental": "false",
    "Ostype": "linux",
    # Clients look for the first word, and read the system between the parentheses.
    "Server": f"Docker/{VERSION} (linux)",
}

# No digit more than the largest has; leading zeros are not worth more.
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,40}")

Filters = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose route and version are known."""

    request: web.BaseRequest
    backend: Backend
    version: Version
    args: Mapping[str, str]  # from the path
    only: ServiceFilters = field(default_factory=dict)  # filters that hold beside those that the client asks for
    judged: ContainerSpec | None = None  # what a create makes, as a socket's scope has judged it; it names others by ID
    _read: list[bytes] = field(default_factory=list)  # the body, once it has been read

    @property
    def images(self) -> ImageBackend:
        """Images, on their way in and out too."""
        return self.backend.engine

    @property
    def containers(self) -> ContainerBackend:
        """Containers, as far as they take several services."""
        return self.backend.engine

    @property
    def system(self) -> SystemBackend:
        """The engine as a whole."""
        return self.backend.engine

    @property
    def control(self) -> ContainerControl:
        """One container at a time."""
        return self.backend.runtime.containers

    @property
    def files(self) -> FileBackend:
        """Containers' files."""
        return self.backend.runtime.archives

    @property
    def execs(self) -> ExecBackend:
        """Further processes in containers."""
        return self.backend.runtime.execs

    @property
    def networks(self) -> NetworkBackend:
        """Networks."""
        return self.backend.runtime.networks

    @property
    def volumes(self) -> VolumeBackend:
        """Volumes."""
        return self.backend.runtime.volumes

    @property
    def host(self) -> HostBackend:
        """The machine."""
        return self.backend.runtime.host

    @property
    def followed(self) -> Followed:
        """What goes on for as long as a client looks, also when runtimed starts again."""
        return self.backend.runtime

    def text(self, name: str) -> str:
        """Return a query parameter, empty if there is none."""
        return well_formed(self.request.query.get(name, ""))

    def since(self, version: Version, name: str) -> str:
        """Return a query parameter that earlier versions do not know: for them it is not there."""
        return self.text(name) if self.version >= version else ""

    def all_since(self, version: Version, name: str) -> list[str]:
        """Return such a parameter that may be there several times."""
        return self.request.query.getall(name, []) if self.version >= version else []

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a query parameter as Docker reads booleans: everything but the known words for false is true."""
        value = self.request.query.get(name)
        return default if value is None else query_bool(value)

    def number(self, name: str, default: int | None = None) -> int | None:
        """Return a numeric query parameter; one that fits Go's int but not the services' counts as the most they take.

        So much is as good as infinite: seconds of patience, or how many of a list.

        Raises:
            InvalidArgumentError: it is there and no number, or none that Go's int holds.
        """
        value = self.text(name)
        if not value:
            return default
        if not _NUMBER.fullmatch(value):
            raise InvalidArgumentError(f"invalid value for {name}: {shown(value)} is not a number")
        if (number := int(value)) not in INT64:
            raise InvalidArgumentError(f"invalid value for {name}: {shown(value)} is out of range")
        return max(INT32.start, min(number, INT32.stop - 1))

    def filters(self) -> Filters:
        """Return the ``filters`` parameter: a JSON object of lists or, the newer form, of objects with true members.

        Raises:
            InvalidArgumentError: anything else.
        """
        filters = parse_filters(self.text("filters"))
        for key, values in self.only.items():
            filters[key] = [*filters.get(key, []), *values]
        return filters

    def chosen(self) -> ServiceFilters:
        """Return the filters as the services take them."""
        return to_filters(self.filters())

    async def body(self, *, required: bool = False) -> JsonObject:
        """Return the JSON object in the body; an absent body is an empty object unless ``required``.

        Raises:
            InvalidArgumentError: not JSON, no object, too big, or the Content-Type is another one.
        """
        raw = await self.raw_body()
        if not raw.strip():
            if required:
                raise InvalidArgumentError("invalid JSON: got EOF while reading request body")
            return {}
        kind = self.request.content_type
        if kind != "application/json" and "Content-Type" in self.request.headers:
            raise InvalidArgumentError(f"unsupported Content-Type header ({kind}): must be 'application/json'")
        if required and "Content-Type" not in self.request.headers:
            raise InvalidArgumentError("unsupported Content-Type header (): must be 'application/json'")
        value = decode(raw, "invalid JSON")
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidArgumentError("invalid JSON: expected an object")
        return value

    @property
    def read_body(self) -> bytes:
        """The body as far as somebody has asked for it; empty otherwise."""
        return self._read[0] if self._read else b""

    async def raw_body(self) -> bytes:
        """Return the whole body. InvalidArgumentError: too big."""
        if not self._read:
            self._read.append(await self._receive_body())
        return self._read[0]

    async def _receive_body(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for chunk in self.request.content.iter_any():
            size += len(chunk)
            if size > MAX_BODY_BYTES:
                raise InvalidArgumentError(f"request body is larger than {MAX_BODY_BYTES} bytes")
            parts.append(chunk)
        return b"".join(parts)


def parse_filters(text: str) -> Filters:
    """See ``Call.filters``."""
    if not text:
        return {}
    given = decode(text, f"invalid filter: {shown(text)} is not JSON")
    if not isinstance(given, dict):
        raise InvalidArgumentError("invalid filter: expected an object")
    filters: Filters = {}
    for key, values in given.items():
        if isinstance(values, dict):
            values = list(values)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise InvalidArgumentError(f"invalid filter {shown(key)}: expected a list of strings")
        filters[key] = values
    return filters


def to_filters(filters: Filters) -> ServiceFilters:
    """Return filters as the services take them."""
    return {key: tuple(values) for key, values in filters.items()}


def reply(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Answer with JSON."""
    return web.Response(body=encode(value), status=status, content_type="application/json", headers=headers)


def empty(status: int = 204) -> web.Response:
    """Answer with nothing."""
    return web.Response(status=status)


def streamed(content_type: str) -> web.StreamResponse:
    """Return an answer to write piece by piece."""
    return web.StreamResponse(headers={**HEADERS, "Content-Type": content_type})


def break_off(request: web.BaseRequest, error: Exception) -> NoReturn:
    """End an answer whose head is out in a way that its client cannot take for the end.

    Raises:
        ConnectionResetError: always: there is nobody to answer any more.
    """
    log.error("answer broken off", path=request.path, error=str(error))
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("the answer is not whole") from error


class JsonStream:
    """An answer of JSON values one after another; the status line goes out with ``begin`` or the first value.

    Whoever writes faster than the client reads waits. A client that is gone raises ConnectionResetError.
    """

    def __init__(
        self,
        request: web.BaseRequest,
        *,
        content_type: str = "application/json",
        lead: bytes = b"",
        end: bytes = b"\n",
    ) -> None:
        self._request = request
        self._lead = lead
        self._end = end  # of each value: progress streams have CR LF
        self._response = streamed(content_type)

    @property
    def begun(self) -> bool:
        """Whether it is too late for another status."""
        return self._response.prepared

    def header(self, name: str, value: str) -> None:
        """Add a header to the answer, before ``begin``."""
        self._response.headers[name] = value

    async def begin(self) -> None:
        """Send the status and the headers; safe to repeat."""
        if not self._response.prepared:
            await self._response.prepare(self._request)

    async def write(self, *values: object) -> None:
        """Send values, each on a line of its own."""
        await self.begin()
        await self._response.write(self._encode(values))

    async def end(self, *values: object) -> web.StreamResponse:
        """Finish, with last values, and return the response for aiohttp.

        They and the end go out in one piece: a client that has what it wants may leave before a second one.
        """
        await self.begin()
        await self._response.write_eof(self._encode(values))
        return self._response

    def _encode(self, values: Iterable[object]) -> bytes:
        return b"".join(self._lead + encode(value)[:-1] + self._end for value in values)
