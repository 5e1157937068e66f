"""GELF 1.1, Graylog's format: JSON in datagrams, compressed and in chunks where they are large, or over TCP."""

import gzip
import json
import os
import zlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from runtimed.logs.drivers.connection import Connection
from runtimed.logs.drivers.driver import Shipping
from runtimed.logs.records import STAMP, STREAM, TEXT
from sampan.docker.options.log_receivers import gelf_receiver

_CHUNK_BYTES: Final = 1420 - 12
_MOST_CHUNKS: Final = 128
_MAGIC: Final = b"\x1e\x0f"


class Gelf:
    """Sends each line as a message."""

    def __init__(self, plan: Shipping) -> None:
        self._connection = Connection(gelf_receiver(plan.options))
        self._compression = plan.options.get("gelf-compression-type", "gzip")
        self._level = int(plan.options.get("gelf-compression-level", "1"))
        self._hostname = plan.hostname
        container = plan.container
        self._extra = {
            "_container_id": container["id"],
            "_container_name": container["name"],
            "_image_id": container["image_id"],
            "_image_name": container["image_name"],
            "_command": container["command"],
            "_tag": plan.tag,
            "_created": container["created"],
            **{f"_{key}": value for key, value in plan.attributes.items()},
        }

    def send(self, records: Sequence[bytes]) -> None:
        """Send them. Raises OSError."""
        messages = [self._message(record) for record in records if record[TEXT:]]
        if self._connection.receiver.scheme == "tcp":
            self._connection.send(b"".join(message + b"\0" for message in messages))
            return
        for message in messages:
            for datagram in _chunked(self._compressed(message)):
                self._connection.send(datagram)

    def _message(self, record: bytes) -> bytes:
        stamp = record[STAMP].decode()
        second = datetime.fromisoformat(stamp[:19] + "+00:00").timestamp()
        fields = {
            "version": "1.1",
            "host": self._hostname,
            "short_message": record[TEXT:].decode(errors="replace"),
            "timestamp": round(second + int(stamp[20:23]) / 1000, 3),
            "level": 3 if record[STREAM] == b"stderr" else 6,
            **self._extra,
        }
        return json.dumps(fields, ensure_ascii=False).encode("utf-8", "replace")

    def _compressed(self, message: bytes) -> bytes:
        match self._compression:
            case "gzip":
                return gzip.compress(message, self._level)
            case "zlib":
                return zlib.compress(message, self._level)
            case _:
                return message

    def abort(self) -> None:
        """Let go of the receiver."""
        self._connection.close()


def _chunked(message: bytes) -> list[bytes]:
    """Return the datagrams of a message; one that is larger than the format can carry is left out, as by dockerd."""
    if len(message) <= _CHUNK_BYTES + 12:
        return [message]
    count = -(-len(message) // _CHUNK_BYTES)
    if count > _MOST_CHUNKS:
        return []
    message_id = os.urandom(8)
    return [
        _MAGIC + message_id + bytes((number, count)) + message[number * _CHUNK_BYTES : (number + 1) * _CHUNK_BYTES]
        for number in range(count)
    ]
