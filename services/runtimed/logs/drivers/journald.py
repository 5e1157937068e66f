"""systemd's journal, by its native protocol: datagrams of fields, and files in memory where they are too large."""

import array
import errno
import os
import re
import socket
from collections.abc import Sequence
from typing import Final

from runtimed.logs.drivers.connection import TIMEOUT_S
from runtimed.logs.drivers.driver import Shipping
from runtimed.logs.records import STREAM, TAG, TEXT, WHOLE

SOCKET: Final = "/run/systemd/journal/socket"
_NO_FIELD: Final = re.compile(r"[^A-Z0-9_]")
_INFO: Final = b"6"
_ERROR: Final = b"3"


class Journald:
    """Sends each line as an entry."""

    def __init__(self, plan: Shipping, path: str = SOCKET) -> None:
        self._path = path
        self._socket: socket.socket | None = None
        container = plan.container
        fields = {
            "CONTAINER_ID": container["id"][:12],
            "CONTAINER_ID_FULL": container["id"],
            "CONTAINER_NAME": container["name"],
            "CONTAINER_TAG": plan.tag,
            "IMAGE_NAME": container["image_name"],
            "SYSLOG_IDENTIFIER": plan.tag,
            **{field_name(key): value for key, value in plan.attributes.items() if field_name(key)},
        }
        self._fields = b"".join(_field(name, value.encode()) for name, value in fields.items())

    def send(self, records: Sequence[bytes]) -> None:
        """Send them. Raises OSError."""
        for record in records:
            if record[TEXT:]:
                self._send(self._entry(record))

    def _entry(self, record: bytes) -> bytes:
        priority = _ERROR if record[STREAM] == b"stderr" else _INFO
        partial = b"" if record[TAG] == WHOLE else _field("CONTAINER_PARTIAL_MESSAGE", b"true")
        return _field("MESSAGE", record[TEXT:]) + _field("PRIORITY", priority) + partial + self._fields

    def _send(self, entry: bytes) -> None:
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            made.settimeout(TIMEOUT_S)
            try:
                made.connect(self._path)
            except OSError:
                made.close()
                raise
            self._socket = made
        try:
            self._socket.send(entry)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            self._send_file(self._socket, entry)

    def _send_file(self, journal: socket.socket, entry: bytes) -> None:
        fd = os.memfd_create("journal-entry", os.MFD_CLOEXEC)
        try:
            os.write(fd, entry)
            journal.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])
        finally:
            os.close(fd)

    def abort(self) -> None:
        """Let go of the journal."""
        opened, self._socket = self._socket, None
        if opened is not None:
            opened.close()


def field_name(key: str) -> str:
    """Return what the journal would take for a label's or variable's name: capitals, digits, no underscore first."""
    return _NO_FIELD.sub("_", key.upper()).lstrip("_0123456789")[:64]


def _field(name: str, value: bytes) -> bytes:
    if b"\n" not in value:
        return name.encode() + b"=" + value + b"\n"
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
