"""Who is at the other end of a connection: what the kernel says of a unix socket, and a certificate of TLS."""

import contextlib
import socket
import struct
from asyncio import BaseTransport
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

_CREDENTIALS: Final = struct.Struct("iII")  # struct ucred of unix(7)

# As RFC 4514 writes the attributes that certificates of clients have.
_SHORT: Final = {
    "commonName": "CN", "organizationName": "O", "organizationalUnitName": "OU", "countryName": "C",
    "localityName": "L", "stateOrProvinceName": "ST",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Peer:
    """A client. What is not known is empty, or -1."""

    uid: int = -1
    gid: int = -1
    pid: int = -1  # that connected: it may have passed the connection on, or be gone
    command: str = ""
    address: str = ""
    subject: str = ""  # of its certificate: "CN=alice"
    name: str = ""  # the subject's common name alone
    serial: str = ""

    def record(self) -> dict[str, object]:
        """Return what is known."""
        known: dict[str, object] = {
            key: value for key, value in (("uid", self.uid), ("gid", self.gid), ("pid", self.pid)) if value >= 0
        }
        texts = (
            ("command", self.command),
            ("address", self.address),
            ("certificate", self.subject),
            ("serial", self.serial),
        )
        return known | {key: value for key, value in texts if value}


NOBODY: Final = Peer()


def peer_of(transport: BaseTransport | None) -> Peer:
    """Return who is at the other end."""
    sock = None if transport is None else transport.get_extra_info("socket")
    if transport is None or sock is None:
        return NOBODY
    if sock.family == socket.AF_UNIX:
        pid, uid, gid = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return Peer(uid, gid, pid, _command(pid))
    address = transport.get_extra_info("peername")
    where = f"{address[0]}:{address[1]}" if address else ""
    shown = cast("dict[str, object]", transport.get_extra_info("peercert") or {})
    parts = list(_attributes(cast("Iterable[Iterable[tuple[str, str]]]", shown.get("subject", ()))))
    name = next((value for key, value in parts if key == "CN"), "")
    subject = ",".join(f"{key}={value}" for key, value in parts)
    return Peer(address=where, subject=subject, name=name, serial=str(shown.get("serialNumber", "")))


def _attributes(subject: Iterable[Iterable[tuple[str, str]]]) -> Iterable[tuple[str, str]]:
    for names in subject:
        for key, value in names:
            yield _SHORT.get(key, key), value


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return ""
