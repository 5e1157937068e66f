"""The messages that Docker's clients expect on ``POST /build``, and the text of dockerd's first builder.

The builder runs what it can at once; the text shows one step after another, in the order of the Dockerfile, as clients
and scripts expect it. What a later step says waits until it is its turn.
"""

import base64
import contextlib
import itertools
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sampan.build import plan
from sampan.build.plan import PlannedStep
from sampan.build.progress import Update, Vertex, VertexLog
from sampan.build.step import NOT_RUN
from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference

# "[2/5] RUN make", "[stage-1 2/5] RUN make"; what is internal to BuildKit was no step of the first builder's.
_STEP: Final = re.compile(r"\[((?:[^\]]+ )?\d+/\d+)\] (.*)", re.DOTALL)
_EXIT: Final = re.compile(
    r'process "(.*)" did not complete successfully: (?:exit code: (\d+)|cannot allocate memory)', re.DOTALL
)
_NOT_BEGUN: Final = re.compile(r'process ".*" did not complete successfully: (.*)', re.DOTALL)
_KILLED: Final = 137
_MISSING: Final = re.compile(r'failed to calculate checksum[^"]*: "/(.*)": not found', re.DOTALL)
_AS: Final = re.compile(r"FROM\s.*?(\S+)(?:\s+AS\s+(\S+))?\s*", re.IGNORECASE | re.DOTALL)
_MAKE_FILES: Final = ("ADD", "COPY", "RUN", "WORKDIR")
_STDERR: Final = 2


@dataclass(slots=True, eq=False)
class _Step:
    """One instruction, and the vertexes that carry it out."""

    planned: PlannedStep
    vertexes: dict[Digest, Vertex] = field(default_factory=dict)
    waiting: list[JsonObject] = field(default_factory=list)  # what it has said before its turn
    said: bool = False  # something
    not_run: str = ""  # all that it has said, if that is that the OCI runtime did not start it
    shown: bool = False
    runs: bool = False  # it is said that it does

    @property
    def keyword(self) -> str:
        return self.planned.text.partition(" ")[0].upper()

    @property
    def begun(self) -> bool:
        return any(each.started_ns for each in self.vertexes.values())

    @property
    def over(self) -> bool:
        return all(each.completed_ns for each in self.vertexes.values())

    @property
    def cached(self) -> bool:
        if not self.vertexes:  # another step does the same, and has its vertex
            return self.keyword in _MAKE_FILES and bool(self.planned.place)
        return all(each.cached for each in self.vertexes.values())


class ClassicMessages:
    """Renders a build's progress."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []  # in order; all that run are told before the first begins
        self._places: dict[str, _Step] = {}
        self._of_vertex: dict[Digest, _Step] = {}
        self._plan: Digest | None = None  # the vertex that tells it
        self._planned = False
        self._unused: tuple[str, ...] = ()  # build arguments
        self._begun = False
        self._at = 0  # whose turn it is
        self._id = ""  # what the steps so far have come to
        self._stage = ""
        self._stages: dict[str, str] = {}  # what each has come to, by name and by number
        self._count = 0  # of stages
        self._failed: _Step | None = None

    def render(self, updates: Sequence[Update]) -> Iterator[JsonObject]:
        """Yield the messages for some updates, in order."""
        self._take_plan(updates)
        for update in updates:
            if isinstance(update, Vertex):
                self._take(update)
            elif isinstance(update, VertexLog):
                self._log(update)
        while self._begun and self._at < len(self._steps):
            step = self._steps[self._at]
            yield from self._show(step)
            if not step.over or self._at == len(self._steps) - 1:
                return  # what the last step has come to is known when there is an image
            yield from self._close(step)

    def done(self, image_id: str, names: Sequence[str]) -> Iterator[JsonObject]:
        """Yield what ends a build that has succeeded."""
        for step in self._steps[self._at :]:
            yield from self._show(step)
            yield from self._close(step, image_id if step is self._steps[-1] else "")
        yield {"aux": {"ID": image_id}}
        if self._unused:
            yield stream(f"[Warning] One or more build-args [{' '.join(self._unused)}] were not consumed\n")
        yield stream(f"Successfully built {_short(image_id)}\n")
        for name in names:
            yield stream(f"Successfully tagged {name}\n")

    def failure(self, message: str) -> Iterator[JsonObject]:
        """Yield what ends a build that has failed; of a process the last one says the exit code by itself."""
        while self._failed is not None and self._at < len(self._steps):
            step = self._steps[self._at]
            yield from self._show(step)
            if step is self._failed:
                yield from self._running(step)
                break
            yield from self._close(step)
        if self._failed is not None and self._failed.not_run and _EXIT.search(message):
            yield failure(self._failed.not_run.rstrip())
        else:
            yield _failure(message, self._failed.planned.text if self._failed else "")

    # What is told.

    def _take_plan(self, updates: Sequence[Update]) -> None:
        """Take the plan, which is told before the steps; but vertexes come before logs where they come together."""
        if self._plan is None:
            named = (each.digest for each in updates if isinstance(each, Vertex) and each.name == plan.STEP)
            self._plan = next(named, None)
        if self._plan is not None and not self._steps:
            for update in updates:
                if isinstance(update, VertexLog) and update.vertex == self._plan:
                    told = plan.decode_plan(update.data)
                    self._unused = told.unused_arguments
                    for each in told.steps:
                        self._add(each)
                        self._planned = True

    def _take(self, vertex: Vertex) -> None:
        step = self._of_vertex.get(vertex.digest)
        if step is None:
            found = _STEP.fullmatch(vertex.name)
            if found is None:
                return
            step = self._places.get(found[1])
            if step is None:
                if self._planned:
                    return
                # A frontend that told no plan: the steps are those that make files.
                step = self._add(PlannedStep(_without_digest(found[2]), found[1]))
            self._of_vertex[vertex.digest] = step
        step.vertexes[vertex.digest] = vertex
        self._begun = self._begun or bool(vertex.started_ns)
        if vertex.error and self._failed is None:
            self._failed = step

    def _log(self, log: VertexLog) -> None:
        if (step := self._of_vertex.get(log.vertex)) is not None:
            text = log.data.decode(errors="replace")
            if not step.said and log.stream == _STDERR and text.startswith(NOT_RUN):
                step.not_run = text  # the build's error, if no more comes of it
            else:
                _release(step)
                step.waiting.append(_said(text, log.stream))
            step.said = True

    def _add(self, planned: PlannedStep) -> _Step:
        step = _Step(planned)
        self._steps.append(step)
        if planned.place:
            self._places[planned.place] = step
        return step

    # What is shown.

    def _show(self, step: _Step) -> Iterator[JsonObject]:
        """Yield a step's line, once, and what it has said since."""
        if step.over and step is not self._failed:
            _release(step)
        if not step.shown:
            step.shown = True
            counted = [each for each in self._steps if not each.planned.trigger]
            if not step.planned.trigger:
                number = counted.index(step) + 1
                yield stream(f"Step {number}/{len(counted)} : {step.planned.text}\n")
        if step.waiting:
            yield from self._running(step)
            yield from step.waiting
            step.waiting.clear()

    def _running(self, step: _Step) -> Iterator[JsonObject]:
        if step.keyword == "RUN" and not step.runs:
            step.runs = True
            yield stream(f" ---> Running in {_process(step)}\n")

    def _close(self, step: _Step, image_id: str = "") -> Iterator[JsonObject]:
        """Yield what a step has come to."""
        self._at += 1
        if step.keyword == "FROM":
            yield from self._base(step, image_id)
            return
        if step.cached:
            yield stream(" ---> Using cache\n")
        elif step.keyword == "RUN":
            yield from self._running(step)
            yield stream(f"Removing intermediate container {_process(step)}\n")
        if not self._stage and step.keyword == "ARG":
            return  # before the first FROM there is nothing
        # No image has this ID, but what makes the same of the same has it again.
        last = next(reversed(step.vertexes), step.planned.text)
        self._id = image_id or str(Digest.of(f"{self._id} {last}".encode()))
        self._stages[self._stage] = self._stages[str(self._count - 1)] = self._id
        following = self._steps[self._at] if self._at < len(self._steps) else None
        if following is None or not following.planned.trigger:
            yield stream(f" ---> {_short(self._id)}\n")

    def _base(self, step: _Step, image_id: str) -> Iterator[JsonObject]:
        found = _AS.fullmatch(step.planned.text)
        base, name = (found[1], found[2]) if found else ("", "")
        of_stage = self._stages.get(base.lower(), "")
        unknown = "" if base.lower() == "scratch" else str(Digest.of(step.planned.text.encode()))
        self._id = step.planned.image or of_stage or image_id or unknown
        self._stage = (name or f"{self._count}").lower()
        self._stages[self._stage] = self._stages[str(self._count)] = self._id
        self._count += 1
        following = itertools.takewhile(lambda each: each.planned.trigger, self._steps[self._at :])
        if triggers := len(list(following)):
            yield stream(f"# Executing {triggers} build trigger{'s' if triggers > 1 else ''}\n")
        else:
            yield stream(f" ---> {_short(self._id)}\n")


def _release(step: _Step) -> None:
    """Let it be output."""
    if step.not_run:
        step.waiting.append(_said(step.not_run, _STDERR))
        step.not_run = ""


def _said(text: str, descriptor: int) -> JsonObject:
    return stream(f"\x1b[91m{text}\x1b[0m" if descriptor == _STDERR else text)


def _process(step: _Step) -> str:
    """Return the ID of the process that a RUN was: nobody can ask for it, and it is gone when its step is over."""
    return _short(str(next(iter(step.vertexes))))


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _failure(message: str, instruction: str) -> JsonObject:
    if found := _EXIT.search(message):
        code = int(found[2] or _KILLED)
        words = f"The command '{found[1]}' returned a non-zero code: {code}"
        return {"errorDetail": {"code": code, "message": words}, "error": words}
    if found := _NOT_BEGUN.search(message):
        return failure(found[1])
    keyword = instruction.partition(" ")[0].upper()
    if keyword in ("ADD", "COPY") and (missing := _MISSING.search(message)):
        return failure(f"{keyword} failed: {_missing(instruction, missing[1])}")
    said = message.removeprefix("failed to load cache key: ")
    if keyword == "ADD" and said.startswith(("Get ", "invalid response status")):
        return failure(f"ADD failed: {said}")
    return failure(message)


def _missing(instruction: str, path: str) -> str:
    if "--from=" in instruction:
        return f"stat {path}: file does not exist"
    for source in instruction.split()[1:-1]:
        if posixpath.normpath(source).startswith("../") and posixpath.normpath(f"/{source}") == f"/{path}":
            return f"forbidden path outside the build context: {source} ()"
    return f"file not found in build context or excluded by .dockerignore: stat {path}: file does not exist"


def _without_digest(text: str) -> str:
    """Return an instruction as Docker shows it: in a vertex, a FROM's name is whole, and its tag is resolved."""
    keyword, _, name = text.partition(" ")
    if keyword != "FROM":
        return text
    with contextlib.suppress(InvalidArgumentError):
        base = parse_reference(name)
        return f"FROM {(base if base.tag is None else replace(base, digest=None)).familiar}"
    return text


def failure(message: str) -> JsonObject:
    """Return the message that ends a build that has failed."""
    return {"errorDetail": {"message": message}, "error": message}


def stream(text: str) -> JsonObject:
    """Return the message that shows a text as it is."""
    return {"stream": text}


def trace(status: bytes) -> JsonObject:
    """Return the message that carries one ``StatusResponse`` to a client that shows progress itself."""
    return {"id": "moby.buildkit.trace", "aux": base64.b64encode(status).decode()}


def built(image_id: str) -> JsonObject:
    """Return the message that tells such a client what was built."""
    return {"id": "moby.image.id", "aux": {"ID": image_id}}
