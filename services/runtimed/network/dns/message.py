"""As much of DNS messages as a resolver needs that answers for containers and passes everything else on.

Reference: RFC 1035, section 4.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

A: Final = 1
PTR: Final = 12
AAAA: Final = 28
IN: Final = 1

SERVER_FAILURE: Final = 2
NO_SUCH_NAME: Final = 3

MAX_UDP_BYTES: Final = 512  # what every client accepts without having said more
TTL_S: Final = 600  # Docker's; containers come and go, but clients ask again when a connection fails

_HEADER: Final = struct.Struct("!HHHHHH")  # id, flags, counts of questions, answers, authorities, additional records
_RESPONSE: Final = 0x8000
_OPCODE: Final = 0x7800
_TRUNCATED: Final = 0x0200
_RECURSION_DESIRED: Final = 0x0100
_RECURSION_AVAILABLE: Final = 0x0080
_NAME_OF_QUESTION: Final = 0xC00C  # a compression pointer to offset 12, where the question's name is
_MAX_LABEL: Final = 63


@dataclass(frozen=True, slots=True)
class Query:
    """A question."""

    id: int
    flags: int
    name: str  # in lower case, without the last dot
    type: int
    question: bytes  # as it was asked: answers repeat it, upper and lower case included


def parse(message: bytes) -> Query | None:
    """Return the question in ``message``; None if it is anything but a query with one question in class IN."""
    if len(message) < _HEADER.size:
        return None
    identity, flags, questions, *_ = _HEADER.unpack_from(message)
    if flags & (_RESPONSE | _OPCODE) or questions != 1:
        return None
    labels: list[str] = []
    offset = _HEADER.size
    while offset < len(message):
        size = message[offset]
        if size == 0:
            break
        if size > _MAX_LABEL or offset + 1 + size > len(message):
            return None
        labels.append(message[offset + 1 : offset + 1 + size].decode("latin-1").lower())
        offset += 1 + size
    end = offset + 5
    if end > len(message):
        return None
    kind, klass = struct.unpack_from("!HH", message, offset + 1)
    if klass != IN:
        return None
    return Query(identity, flags, ".".join(labels), kind, message[_HEADER.size : end])


def addresses(query: Query, found: Sequence[IPv4Address | IPv6Address], limit: int) -> bytes:
    """Answer with addresses, which may be none: the name exists and has no record of that type.

    An answer of more than ``limit`` bytes is cut and says so: the client asks again over TCP.
    """
    return _answer(query, [(A if address.version == 4 else AAAA, address.packed) for address in found], limit)


def pointer(query: Query, name: str) -> bytes:
    """Answer a reverse query with a name."""
    return _answer(query, [(PTR, _encode(name))], MAX_UDP_BYTES)


def failure(query: Query, code: int) -> bytes:
    """Answer with an error code."""
    return _answer(query, [], MAX_UDP_BYTES, code)


def reversed_address(name: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a name such as ``2.0.17.172.in-addr.arpa`` asks for, or one of 32 digits in ip6.arpa."""
    labels = name.split(".")
    try:
        if len(labels) == 6 and labels[4:] == ["in-addr", "arpa"]:
            return IPv4Address(".".join(reversed(labels[:4])))
        if len(labels) == 34 and labels[32:] == ["ip6", "arpa"] and all(len(label) == 1 for label in labels[:32]):
            return IPv6Address(bytes.fromhex("".join(reversed(labels[:32]))))
    except ValueError:
        return None
    return None


def _answer(query: Query, records: Sequence[tuple[int, bytes]], limit: int, code: int = 0) -> bytes:
    flags = _RESPONSE | _RECURSION_AVAILABLE | query.flags & _RECURSION_DESIRED | code
    size = _HEADER.size + len(query.question)
    body = []
    for kind, value in records:
        record = struct.pack("!HHHIH", _NAME_OF_QUESTION, kind, IN, TTL_S, len(value)) + value
        size += len(record)
        if size > limit:
            flags |= _TRUNCATED
            break
        body.append(record)
    return _HEADER.pack(query.id, flags, 1, len(body), 0, 0) + query.question + b"".join(body)


def _encode(name: str) -> bytes:
    labels = [label.encode("latin-1", "replace")[:_MAX_LABEL] for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
