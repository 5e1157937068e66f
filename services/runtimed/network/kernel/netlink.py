"""Requests to the kernel over netlink(7) sockets, and the encoding that they share."""

import os
import socket
import struct
from collections.abc import Iterator
from typing import Final, Self

NETLINK_EXT_ACK: Final = 11
SOL_NETLINK: Final = 270

NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_REPLACE: Final = 0x100
NLM_F_DUMP: Final = 0x300
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLM_F_CAPPED: Final = 0x100
NLM_F_ACK_TLVS: Final = 0x200

NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

NESTED: Final = 1 << 15
TYPE_MASK: Final = 0x3FFF
HEADER: Final = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ATTRIBUTE: Final = struct.Struct("=HH")  # length, type
RECEIVE_BYTES: Final = 1 << 18


def attribute(kind: int, value: bytes) -> bytes:
    """Encode one attribute, padded to 4 bytes."""
    size = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size % 4)


def attributes(blob: bytes) -> Iterator[tuple[int, bytes]]:
    """Decode a run of attributes; a nested one's value is again such a run."""
    offset = 0
    while offset + ATTRIBUTE.size <= len(blob):
        size, kind = ATTRIBUTE.unpack_from(blob, offset)
        if size < ATTRIBUTE.size:
            return
        yield kind & TYPE_MASK, blob[offset + ATTRIBUTE.size : offset + size]
        offset += size + (-size % 4)


class Netlink:
    """One netlink socket; it stays in the namespace in which it was made. Use it from one thread at a time."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def request(self, kind: int, flags: int, body: bytes, operand: str) -> list[bytes]:
        """Send a request; return the messages that answer it, without their headers.

        Raises:
            OSError: with the kernel's errno, its explanation if it gives one, and ``operand``.
        """
        self._sequence += 1
        header = HEADER.pack(HEADER.size + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        self._socket.send(header + body)
        answers: list[bytes] = []
        while True:
            blob = self._socket.recv(RECEIVE_BYTES)
            offset = 0
            while offset + HEADER.size <= len(blob):
                size, answer, answer_flags, sequence, _ = HEADER.unpack_from(blob, offset)
                payload = blob[offset + HEADER.size : offset + size]
                offset += size + (-size % 4)
                if sequence != self._sequence:
                    continue  # of a request whose answer nobody waited for
                if answer == NLMSG_ERROR:
                    _raise(payload, answer_flags, operand)
                    return answers
                if answer == NLMSG_DONE:
                    return answers
                answers.append(payload)
                if not flags & (NLM_F_ACK | NLM_F_DUMP):
                    return answers


def _raise(payload: bytes, flags: int, operand: str) -> None:
    (code,) = struct.unpack_from("=i", payload)
    if code == 0:
        return
    detail = ""
    if flags & NLM_F_ACK_TLVS:
        # After the code follows our request: only its header if the kernel capped it, else all of it.
        (echoed,) = struct.unpack_from("=I", payload, 4)
        start = 4 + (HEADER.size if flags & NLM_F_CAPPED else echoed)
        text = dict(attributes(payload[start + (-start % 4) :])).get(1, b"").rstrip(b"\0").decode(errors="replace")
        detail = f" ({text})" if text else ""
    raise OSError(-code, os.strerror(-code) + detail, operand)
