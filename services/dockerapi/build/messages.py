"""How a build goes, as the messages that Docker's clients expect on ``POST /build``."""

import base64
import contextlib
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from sampan.build.progress import Update, Vertex, VertexLog
from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject
from sampan.oci.reference import parse_reference

# "[2/5] RUN make", "[stage-1 2/5] RUN make"; what is internal to BuildKit was no step of the first builder's.
_STEP: Final = re.compile(r"\[(?:([^\]]+) )?(\d+)/(\d+)\] (.*)", re.DOTALL)
_EXIT: Final = re.compile(
    r'process "(.*)" did not complete successfully: (?:exit code: (\d+)|cannot allocate memory)', re.DOTALL
)
_KILLED: Final = 137
_MISSING: Final = re.compile(r'failed to calculate checksum[^"]*: "/(.*)": not found', re.DOTALL)


class ClassicMessages:
    """The text of dockerd's first builder: steps, what they print, and what came of it."""

    def __init__(self) -> None:
        self._stages: dict[str, int] = {}  # how many steps each has; all that run are told before the first begins
        self._begun: set[str] = set()  # digests of vertexes
        self._shown: set[str] = set()  # names: what an ADD downloads is a vertex with the name of the ADD
        self._cached: set[str] = set()
        self._failed = ""  # the instruction that has

    def render(self, updates: Sequence[Update]) -> Iterator[JsonObject]:
        """Yield the messages for some updates, in order."""
        for update in updates:
            if isinstance(update, Vertex) and (step := _STEP.fullmatch(update.name)) is not None:
                self._stages[step[1] or ""] = int(step[3])
        for update in updates:
            if isinstance(update, Vertex):
                yield from self._vertex(update)
            elif isinstance(update, VertexLog) and update.vertex in self._begun:
                yield stream(update.data.decode(errors="replace"))

    def _vertex(self, vertex: Vertex) -> Iterator[JsonObject]:
        step = _STEP.fullmatch(vertex.name)
        if step is None or not vertex.started_ns:
            return
        self._begun.add(vertex.digest)
        if vertex.error:
            self._failed = step[4]
        if vertex.name not in self._shown:
            self._shown.add(vertex.name)
            yield stream(f"Step {self._number(step)}/{sum(self._stages.values())} : {_instruction(step[4])}\n")
        if vertex.cached and vertex.name not in self._cached and not step[4].startswith("FROM "):
            self._cached.add(vertex.name)
            yield stream(" ---> Using cache\n")

    def _number(self, step: re.Match[str]) -> int:
        """Return a step's number in the whole build: BuildKit counts in each stage, the first builder never did."""
        before = itertools.takewhile(lambda stage: stage != (step[1] or ""), self._stages)
        return sum(self._stages[stage] for stage in before) + int(step[2])

    def failure(self, message: str) -> JsonObject:
        """Return the message that ends a build that has failed; of a process it says the exit code by itself."""
        if found := _EXIT.search(message):
            code = int(found[2] or _KILLED)
            words = f"The command '{found[1]}' returned a non-zero code: {code}"
            return {"errorDetail": {"code": code, "message": words}, "error": words}
        keyword = self._failed.partition(" ")[0].upper()
        if keyword in ("ADD", "COPY") and (missing := _MISSING.search(message)):
            where = (
                "" if "--from=" in self._failed else "file not found in build context or excluded by .dockerignore: "
            )
            return failure(f"{keyword} failed: {where}stat {missing[1]}: file does not exist")
        return failure(message)


def _instruction(text: str) -> str:
    """Return an instruction as Docker shows it: in a vertex, a FROM's name is whole, and its tag is resolved."""
    keyword, _, name = text.partition(" ")
    if keyword != "FROM":
        return text
    with contextlib.suppress(InvalidArgumentError):
        base = parse_reference(name)
        return f"FROM {(base if base.tag is None else replace(base, digest=None)).familiar}"
    return text


def done(image_id: str, names: Sequence[str]) -> Iterator[JsonObject]:
    """Yield what ends a build that has succeeded."""
    yield {"aux": {"ID": image_id}}
    yield stream(f"Successfully built {image_id.removeprefix('sha256:')[:12]}\n")
    for name in names:
        yield stream(f"Successfully tagged {name}\n")


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
