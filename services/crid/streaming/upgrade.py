"""The one HTTP request with which a session begins, and its answer: another protocol, or a refusal.

Read here and not by aiohttp: a request without a body is all that there is, and crid needs no HTTP otherwise.

Reference: RFC 9112; for SPDY's negotiation ``Handshake`` and ``UpgradeResponse`` of k8s.io/streaming, which clients are
tested with.
"""

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.errors import InvalidArgumentError, PermissionDeniedError, SampanError
from sampan.wire.status import wire_for

MAX_HEAD_BYTES: Final = 32 << 10

PROTOCOL_HEADER: Final = "X-Stream-Protocol-Version"
_ACCEPTED_HEADER: Final = "X-Accepted-Stream-Protocol-Versions"

SPDY: Final = "SPDY/3.1"

_REQUEST: Final = re.compile(r"([A-Z]+) (/\S*) HTTP/1\.1")
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")

_PHRASES: Final = {
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    429: "Too Many Requests",
    500: "Internal Server Error",
}


class NoCommonProtocolError(PermissionDeniedError):
    """None of the sub-protocols that a client offers is one of the server's."""

    def __init__(self, offered: Sequence[str], accepted: Sequence[str]) -> None:
        super().__init__(
            "unable to upgrade: unable to negotiate protocol: "
            f"client supports {', '.join(offered)}, server accepts {', '.join(accepted)}"
        )
        self.accepted = accepted


@dataclass(frozen=True, slots=True)
class Head:
    """A request's first line and its header fields."""

    method: str
    path: str  # without its query
    fields: tuple[tuple[str, str], ...]

    def values(self, name: str) -> tuple[str, ...]:
        """Return the members of a field that is a list, whether sent as one or as several."""
        wanted = name.lower()
        members = (part.strip() for key, value in self.fields if key.lower() == wanted for part in value.split(","))
        return tuple(member for member in members if member)

    def upgrades_to(self, protocol: str) -> bool:
        """Whether the client wants to go on with ``protocol``."""
        wants = any(value.lower() == "upgrade" for value in self.values("Connection"))
        return wants and any(value.lower() == protocol.lower() for value in self.values("Upgrade"))


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read a request; None if the client leaves without one.

    Raises:
        InvalidArgumentError: it is none, is too long, or has a body.
    """
    try:
        text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise InvalidArgumentError("the request ends within its head") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise InvalidArgumentError(f"the head of the request has more than {MAX_HEAD_BYTES} bytes") from error
    first, *lines = text.removesuffix("\r\n\r\n").split("\r\n")
    request = _REQUEST.fullmatch(first)
    fields = [_FIELD.fullmatch(line) for line in lines]
    if request is None or None in fields:
        raise InvalidArgumentError("malformed HTTP request")
    head = Head(request[1], request[2].partition("?")[0], tuple((field[1], field[2]) for field in fields if field))
    if head.values("Transfer-Encoding") or any(length != "0" for length in head.values("Content-Length")):
        raise InvalidArgumentError("a request for a stream has no body")
    if head.method not in ("GET", "POST"):
        raise InvalidArgumentError(f"method {head.method} is not served: use GET or POST")
    return head


def negotiate(offered: Sequence[str], accepted: Sequence[str]) -> str:
    """Return the first that both sides speak. Raises NoCommonProtocolError."""
    for protocol in offered:
        if protocol in accepted:
            return protocol
    raise NoCommonProtocolError(offered, accepted)


def negotiate_spdy(head: Head, accepted: Sequence[str]) -> str:
    """Return the sub-protocol to speak in SPDY's streams.

    Raises:
        InvalidArgumentError: the client names none.
        NoCommonProtocolError: only ones that are not known here.
    """
    offered = head.values(PROTOCOL_HEADER)
    if not offered:
        raise InvalidArgumentError(f"unable to upgrade: header {PROTOCOL_HEADER} names no protocol")
    return negotiate(offered, accepted)


def switching(upgrade: str, fields: Iterable[tuple[str, str]]) -> bytes:
    """Return the answer after which ``upgrade`` is spoken."""
    return _answer("101 Switching Protocols", (("Connection", "Upgrade"), ("Upgrade", upgrade), *fields))


def refusal(error: SampanError) -> bytes:
    """Return the answer that says why not; the connection ends with it."""
    status = wire_for(error).http
    body = f"{error}\n".encode()
    fields = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("X-Content-Type-Options", "nosniff"),
        ("Connection", "close"),
    ]
    if isinstance(error, NoCommonProtocolError):
        fields += [(_ACCEPTED_HEADER, protocol) for protocol in error.accepted]
    return _answer(f"{status} {_PHRASES.get(status, 'Error')}", fields) + body


def _answer(status: str, fields: Iterable[tuple[str, str]]) -> bytes:
    lines = (f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields), "", "")
    return "\r\n".join(lines).encode("latin-1")
