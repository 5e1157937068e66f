"""How a build goes: drawn on a terminal, as plain lines, or as JSON for programs.

The plain form is the one of ``docker buildx build --progress plain``: scripts read it.
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Final, Protocol

from sampan.build.progress import Update, Vertex, VertexLog, VertexStatus
from sampan.docker.sizes import human_size
from sampan.docker.times import rfc3339_ns
from sampan.json_types import JsonObject
from sampan_cli.output.build_steps import Step, Steps, seconds, warnings

PROGRESS: Final = ("auto", "tty", "plain", "rawjson", "quiet")

_SECOND_NS: Final = 10**9

# A status of so many bytes, as BuildKit names them; of others a count means nothing to people.
_OF_BYTES: Final = re.compile(r"transferring .*|sha256:[0-9a-f]{64}|pushing .*|copying files.*|sending tarball.*")


class View(Protocol):
    """Where progress is shown."""

    def update(self, updates: Sequence[Update]) -> None:
        """Show what has changed."""

    def close(self) -> None:
        """Show the last of it."""


class PlainView:
    """Lines: what a step prints together, with its number before it."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self.steps = Steps()
        self._current: Step | None = None
        self._told: set[int] = set()  # steps that were named
        self._ended: set[int] = set()

    def update(self, updates: Sequence[Update]) -> None:
        """Write what is new."""
        for update in updates:
            if isinstance(update, Vertex):
                self._vertex(update)
            elif isinstance(update, VertexLog):
                step = self.steps.get(update.vertex)
                if step is not None:
                    self._lines(step, step.printed(update))
            elif isinstance(update, VertexStatus):
                self._status(update)
            else:
                self.steps.warnings.append(update)

    def close(self) -> None:
        """Show the output of a step that failed once more, at the end, where people look."""
        failed = self.steps.failed()
        if failed is not None and failed.lines:
            rule = "-" * 6
            self._write("\n".join(["", rule, f" > {failed.vertex.name}:", *failed.lines, rule, ""]))
        for line in warnings(self.steps.warnings):
            self._write(f"{line}\n")

    def _vertex(self, vertex: Vertex) -> None:
        step = self.steps.take(vertex)
        if step is None or step.number in self._ended:
            return
        self._turn_to(step)
        if vertex.completed_ns or vertex.error:
            self._ended.add(step.number)
            self._lines(step, step.rest())
            self._write(f"#{step.number} {_outcome(vertex)}\n")
            self._current = None

    def _status(self, status: VertexStatus) -> None:
        step = self.steps.get(status.vertex)
        if step is None or step.number in self._ended:
            return
        before = step.statuses.get(status.id)
        step.statuses[status.id] = status
        if before is not None and not (status.completed_ns and not before.completed_ns):
            return  # lines are for beginnings and ends
        self._lines(step, [_status_line(status)])

    def _lines(self, step: Step, lines: Iterable[str]) -> None:
        for line in lines:
            self._turn_to(step)
            self._write(f"#{step.number} {line}\n")

    def _turn_to(self, step: Step) -> None:
        if self._current is step:
            return
        if self._current is not None:
            self._write(f"#{self._current.number} ...\n")
        if self._told:
            self._write("\n")
        self._write(f"#{step.number} {step.vertex.name}\n")
        self._told.add(step.number)
        self._current = step


def _outcome(vertex: Vertex) -> str:
    if vertex.error:
        return "CANCELED" if "context canceled" in vertex.error else f"ERROR: {vertex.error}"
    return "CACHED" if vertex.cached else f"DONE {seconds(vertex):.1f}s"


def _status_line(status: VertexStatus) -> str:
    text = status.id
    if _OF_BYTES.fullmatch(status.id):
        if status.total:
            text += f" {human_size(status.current, 3)} / {human_size(status.total, 3)}"
        elif status.current:
            text += f" {human_size(status.current, 3)}"
    if status.completed_ns:
        took_s = max(0, status.completed_ns - status.started_ns) / _SECOND_NS
        text += f" {took_s:.1f}s done" if took_s >= 0.1 else " done"
    return text


class JsonView:
    """One JSON object for each update, as ``docker buildx build --progress rawjson`` has them."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def update(self, updates: Sequence[Update]) -> None:
        """Write what is new."""
        document: dict[str, list[JsonObject]] = {}
        for update in updates:
            name, members = _json(update)
            document.setdefault(name, []).append(members)
        self._write(json.dumps(document, separators=(",", ":")) + "\n")

    def close(self) -> None:
        """Nothing is left."""


def _json(update: Update) -> tuple[str, JsonObject]:
    members: JsonObject
    if isinstance(update, Vertex):
        members = {"digest": update.digest, "inputs": list(update.inputs), "name": update.name}
        members |= {"cached": True} if update.cached else {}
        members |= {"error": update.error} if update.error else {}
        if (group := update.progress_group) is not None:
            members["progressGroup"] = {"id": group.id, "name": group.name, "weak": group.weak}
        return "vertexes", members | _times(started=update.started_ns, completed=update.completed_ns)
    if isinstance(update, VertexStatus):
        members = {"id": update.id, "vertex": update.vertex, "current": update.current, "total": update.total}
        times = _times(timestamp=update.timestamp_ns, started=update.started_ns, completed=update.completed_ns)
        return "statuses", members | times
    if isinstance(update, VertexLog):
        members = {"vertex": update.vertex, "stream": update.stream, "data": _base64(update.data)}
        return "logs", members | _times(timestamp=update.timestamp_ns)
    said = update.warning
    members = {
        "vertex": update.vertex,
        "level": update.level,
        "short": _base64(said.message.encode()),
        "detail": [_base64(line.encode()) for line in said.detail],
        "url": said.url,
        "sourceInfo": {"filename": update.file_name, "data": _base64(update.file_data)},
        "range": [
            {"start": {"line": each.first_line, "character": 0}, "end": {"line": each.last_line, "character": 0}}
            for each in said.positions
        ],
    }
    return "warnings", members


def _times(**times_ns: int) -> JsonObject:
    return {name: rfc3339_ns(time_ns) for name, time_ns in times_ns.items() if time_ns}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class QuietView:
    """Nothing, unless a step fails."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._plain = PlainView(lambda _: None)

    def update(self, updates: Sequence[Update]) -> None:
        """Remember what there may be to tell."""
        self._plain.update(updates)

    def close(self) -> None:
        """Tell what a step printed that failed."""
        failed = self._plain.steps.failed()
        if failed is not None:
            self._write("\n".join([f" > {failed.vertex.name}:", *failed.lines, ""]))


@contextmanager
def open_view(kind: str, stream: IO[str]) -> Iterator[View]:
    """Yield what shows progress on ``stream``; ``kind`` is one of PROGRESS."""

    def write(text: str) -> None:
        stream.write(text)
        stream.flush()

    view: View
    if kind == "tty" or (kind == "auto" and stream.isatty()):
        from sampan_cli.output.build_screen import Screen  # rich takes as long to import as everything else here

        view = Screen(stream)
    elif kind == "rawjson":
        view = JsonView(write)
    elif kind == "quiet":
        view = QuietView(write)
    else:
        view = PlainView(write)
    try:
        yield view
    finally:
        view.close()
