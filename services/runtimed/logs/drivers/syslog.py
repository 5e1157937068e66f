"""Syslog: RFC 3164, RFC 5424, and what a machine's own syslog reads; framing as dockerd's."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from runtimed.logs.drivers.connection import Connection, Tls
from runtimed.logs.drivers.driver import Shipping
from runtimed.logs.records import STAMP, STREAM, TEXT
from sampan.docker.booleans import SPELLINGS
from sampan.docker.options.log_receivers import syslog_facility, syslog_receiver

_INFO: Final = 6
_ERROR: Final = 3


def syslog_connection(options: Mapping[str, str]) -> Connection:
    """Return the connection that a container's options ask for."""
    tls = Tls(
        options.get("syslog-tls-ca-cert", ""),
        options.get("syslog-tls-cert", ""),
        options.get("syslog-tls-key", ""),
        # As with dockerd, the option's being there is what counts.
        verify="syslog-tls-skip-verify" not in options or SPELLINGS.get(options["syslog-tls-skip-verify"]) is False,
    )
    return Connection(syslog_receiver(options), tls)


class Syslog:
    """Sends each line as a message."""

    def __init__(self, plan: Shipping) -> None:
        self._connection = syslog_connection(plan.options)
        self._facility = syslog_facility(plan.options) << 3
        self._format = plan.options.get("syslog-format", "")
        self._hostname = plan.hostname or "-"
        self._tag = plan.tag
        self._pid = os.getpid()
        # RFC 5425: over TLS, messages of RFC 5424 say how long they are.
        self._counted = self._format.startswith("rfc5424") and self._connection.receiver.scheme == "tls"

    def send(self, records: Sequence[bytes]) -> None:
        """Send them. Raises OSError."""
        messages = [self._framed(record) for record in records]
        self._connection.open()
        if self._connection.is_stream:
            self._connection.send(b"".join(messages))
        else:
            for message in messages:
                self._connection.send(message)

    def _framed(self, record: bytes) -> bytes:
        message = self._message(record) + b"\n"
        return b"%d %b" % (len(message), message) if self._counted else message

    def _message(self, record: bytes) -> bytes:
        priority = self._facility | (_ERROR if record[STREAM] == b"stderr" else _INFO)
        stamp = record[STAMP].decode()
        moment = datetime.fromisoformat(stamp[:26] + "+00:00")
        match self._format:
            case "rfc5424":
                time = moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")
                head = f"<{priority}>1 {time} {self._hostname} {self._tag} {self._pid} {self._tag} - "
            case "rfc5424micro":
                time = moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
                head = f"<{priority}>1 {time} {self._hostname} {self._tag} {self._pid} {self._tag} - "
            case "rfc3164":
                head = f"<{priority}>{_stamp(moment)} {self._hostname} {self._tag}[{self._pid}]: "
            case _:
                head = f"<{priority}>{_stamp(moment)} {self._tag}[{self._pid}]: "
        return head.encode() + record[TEXT:]

    def abort(self) -> None:
        """Let go of the receiver."""
        self._connection.close()


def _stamp(moment: datetime) -> str:
    """Return RFC 3164's time, which is the machine's own."""
    local = moment.astimezone(UTC).astimezone()
    return f"{local:%b} {local.day:2} {local:%H:%M:%S}"
