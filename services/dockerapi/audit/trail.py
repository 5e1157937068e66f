"""The audit log: who did what, on which object, and what came of it. A line of JSON for each request.

A line that cannot be written is kept, and tried again with the next request. What happens to requests meanwhile is a
policy: they are refused, so that nothing is done that is not on record, or they go on and the loss is told.
"""

import contextlib
import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from aiohttp import web

from dockerapi.audit.redaction import redacted, redacted_text
from dockerapi.audit.sinks import Sink
from dockerapi.http.call import Call
from dockerapi.http.connection import CLIENT_CLOSED_REQUEST, Connection, Entrance
from dockerapi.rights.operations import Operation, Reach
from dockerapi.rights.peer import Peer
from sampan.errors import InvalidArgumentError, UnavailableError
from sampan.log import log

# Lines that wait for a sink that takes none. Those that are refused for its sake are among them.
_MOST_WAITING: Final = 1000

_LONGEST_LINE: Final = 8 << 10

# Parameters of a query that say what was asked for, and nothing that belongs to nobody else.
_PARAMETERS: Final = frozenset(
    (
        "name", "fromImage", "fromSrc", "repo", "tag", "platform", "path", "signal", "t", "force", "v", "noprune",
        "container", "reference", "remote", "dockerfile", "networkmode", "target", "filters", "names",
    )
)  # fmt: skip

# Where a query names what an operation is about whose path does not.
_NAMED_BY: Final = {
    "image.pull": "fromImage", "image.save-all": "names", "image.commit": "container", "build.run": "t",
}  # fmt: skip

_MADE: Final = ("Id", "ID", "Name")  # what an answer calls what was made


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as far as it got."""

    request: web.BaseRequest
    operation: Operation | None  # None: none that is known
    call: Call | None  # None: it was not understood


class AuditTrail:
    """Writes the lines."""

    def __init__(
        self, sink: Sink, *, everything: bool, refuses: bool, tell: Callable[[str], None] = lambda _: None
    ) -> None:
        """Without ``everything`` what only looks is left out; ``refuses`` is the policy for a sink that fails.

        ``tell`` is told that it fails, and with an empty text that it does so no more.
        """
        self._tell = tell
        self._sink = sink
        self._everything = everything
        self._refuses = refuses
        self._waiting: deque[str] = deque(maxlen=_MOST_WAITING)
        self._failing = ""
        self.lost = 0

    def wants(self, operation: Operation | None) -> bool:
        """Whether it is written down. What is not known is."""
        return self._everything or operation is None or operation.reach is not Reach.LOOKS

    def admit(self, operation: Operation | None) -> None:
        """Let a request in that can be written down.

        Raises:
            UnavailableError: the log cannot be written, and the policy is to do nothing without it.
        """
        if self._waiting and self.wants(operation):
            self._write_waiting()
            if self._waiting and self._refuses:
                raise UnavailableError(f"the audit log cannot be written: {self._failing}: nothing is done without it")

    def begun(self, asked: Asked) -> None:
        """Write down what has no end of its own, as it begins."""
        if self.wants(asked.operation):
            self._write(_record(asked) | {"outcome": "begun"})

    def ended(self, asked: Asked, response: web.StreamResponse, error: Exception | None, seconds: float) -> None:
        """Write down what came of it."""
        if not self.wants(asked.operation):
            return
        record = _record(asked)
        if made := _made(response):
            record["object"] = made
        record |= {"outcome": _outcome(response.status), "status": response.status, "duration_ms": round(seconds * 1e3)}
        if error is not None:
            record["error"] = redacted_text(str(error))
        self._write(record)

    def called(self, who: Peer, entrance: Entrance, operation: Operation | None, record: Mapping[str, object]) -> None:
        """Write down a call of gRPC: that it begins, or what came of it. ``record`` is what there is to say of it."""
        if self.wants(operation):
            said = {key: redacted(value, key) for key, value in record.items()}
            self._write(_head(who, entrance, operation) | said)

    def _write(self, record: dict[str, object]) -> None:
        line = json.dumps(record, separators=(",", ":"), ensure_ascii=False, default=str)
        if len(line) > _LONGEST_LINE:
            line = json.dumps(record | {"request": "too long"}, separators=(",", ":"), ensure_ascii=False, default=str)
        if len(self._waiting) == _MOST_WAITING:
            self._lose(1)
        self._waiting.append(line)
        self._write_waiting()

    def _write_waiting(self) -> None:
        try:
            while self._waiting:
                self._sink.write(self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            if not self._failing:
                log.error("audit log not written", error=str(error), refuses=self._refuses)
                self._tell(f"the audit log cannot be written: {error.strerror or error}")
            self._failing = (error.strerror or str(error)).lower()
            if not self._refuses:
                self._lose(len(self._waiting))
                self._waiting.clear()
            return
        if self._failing:
            log.info("audit log written again", lost=self.lost)
            self._failing = ""
            self._tell("")

    def _lose(self, count: int) -> None:
        self.lost += count

    def reopen(self) -> None:
        """Open the sink anew, where somebody rotates it."""
        self._sink.reopen()

    def close(self) -> None:
        """Write what waits, if that is possible now."""
        self._write_waiting()
        if self._waiting:
            log.error("audit log ends with lines that could not be written", lost=len(self._waiting))
        self._sink.close()


def _head(who: Peer, entrance: Entrance, operation: Operation | None) -> dict[str, object]:
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "who": who.record(),
        "socket": entrance.name,
        "operation": operation.name if operation is not None else "unknown",
    }


def _record(asked: Asked) -> dict[str, object]:
    request, call, operation = asked.request, asked.call, asked.operation
    connection = Connection.of(request)
    record = _head(connection.peer, connection.entrance, operation)
    record |= {"method": request.method, "path": redacted_text(request.path)}
    if call is not None and operation is not None and operation.field:
        record["object"] = call.args.get(operation.field, "")
    elif operation is not None and (names := request.query.getall(_NAMED_BY.get(operation.name, ""), [])):
        record["object"] = redacted_text(", ".join(names))
    parameters = {key: redacted_text(value) for key, value in request.query.items() if key in _PARAMETERS and value}
    if parameters:
        record["parameters"] = parameters
    if call is not None and (body := _body(call)):
        record["request"] = body
    return record


def _body(call: Call) -> object:
    """Return the JSON that was read, if any was, as it may be written down."""
    with contextlib.suppress(InvalidArgumentError, ValueError, RecursionError):
        if text := call.read_body:
            return redacted(json.loads(text))
    return None


def _made(response: web.StreamResponse) -> str:
    body = response.body if isinstance(response, web.Response) and response.status == 201 else None
    if isinstance(body, bytes) and len(body) < 1 << 16:
        with contextlib.suppress(ValueError):
            answer = json.loads(body)
            if isinstance(answer, dict):
                return next((str(answer[name]) for name in _MADE if answer.get(name)), "")
    return ""


def _outcome(status: int) -> str:
    # A client that leaves has had what was sent until then, and docker's leaves an archive at its last block.
    if status < 400 or status == CLIENT_CLOSED_REQUEST:
        return "done"
    return "refused" if status in (401, 403) else "failed"
