"""Fluentd's forward protocol: messages of MessagePack, acknowledged if that is asked for."""

import base64
import os
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgpack

from runtimed.logs.drivers.connection import Connection
from runtimed.logs.drivers.driver import Shipping
from runtimed.logs.records import STAMP, STREAM, TAG, TEXT, WHOLE
from sampan.docker.booleans import SPELLINGS
from sampan.docker.options.log_receivers import fluentd_receiver, fluentd_timeouts_s

_EVENT_TIME: Final = 0  # the extension type of times with nanoseconds
_ANSWER_BYTES: Final = 4096


def _pack(value: object) -> bytes:
    packed: bytes = msgpack.packb(value, unicode_errors="surrogateescape")
    return packed


class Fluentd:
    """Sends each line as an event; a batch is as many events."""

    def __init__(self, plan: Shipping) -> None:
        answer_s, write_s = fluentd_timeouts_s(plan.options)
        self._connection = Connection(fluentd_receiver(plan.options), answer_s=answer_s, write_s=write_s)
        self._acknowledged = SPELLINGS.get(plan.options.get("fluentd-request-ack", ""), False)
        self._precise = SPELLINGS.get(plan.options.get("fluentd-sub-second-precision", ""), False)
        self._tag = plan.tag
        self._record = {"container_id": plan.container["id"], "container_name": f"/{plan.container['name']}"}
        self._attributes = dict(plan.attributes)

    def send(self, records: Sequence[bytes]) -> None:
        """Send them, and wait for the answer if that is asked for. Raises OSError."""
        entries = [[self._time(record), self._event(record)] for record in records]
        if not self._acknowledged:
            self._connection.send(b"".join(_pack([self._tag, time, event]) for time, event in entries))
            return
        # All of a batch are acknowledged at once: the protocol's forward mode.
        chunk = base64.b64encode(os.urandom(16)).decode()
        self._connection.send(_pack([self._tag, entries, {"chunk": chunk}]))
        answers = msgpack.Unpacker()
        while piece := self._connection.receive(_ANSWER_BYTES):
            answers.feed(piece)
            for answer in answers:
                if isinstance(answer, dict) and answer.get("ack") == chunk:
                    return
                raise OSError(f"fluentd answered {answer!r:.100}")
        raise ConnectionResetError("fluentd has closed the connection")

    def _time(self, record: bytes) -> object:
        stamp = record[STAMP].decode()
        seconds = int(datetime.fromisoformat(stamp[:19] + "+00:00").timestamp())
        if not self._precise:
            return seconds
        return msgpack.ExtType(_EVENT_TIME, seconds.to_bytes(4, "big") + int(stamp[20:29]).to_bytes(4, "big"))

    def _event(self, record: bytes) -> dict[str, str]:
        # What is no UTF-8 goes as it is, as dockerd sends it: fluentd takes a string for bytes.
        text = record[TEXT:].decode("utf-8", "surrogateescape")
        event = {**self._record, "source": record[STREAM].decode(), "log": text, **self._attributes}
        if record[TAG] != WHOLE:
            event["partial_message"] = "true"
        return event

    def abort(self) -> None:
        """Let go of the receiver."""
        self._connection.close()
