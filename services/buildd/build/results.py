"""Results of one build, made by frontends or given as definitions; clients name them by IDs."""

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from buildd.build.bridge import GATEWAY, Forwarder
from buildd.build.caching import BuildCaches, imports_of
from buildd.build.judging import SourceJudge
from buildd.build.protocol import GatewayRequest, Graphs, LocatedError
from buildd.llb.ops import Edge
from buildd.protocol import Bridge, Output, Result, Said, SourceFile, StepError
from buildd.solver.build import Build
from sampan.build.policy import Policies
from sampan.build.request import DOCKERFILE_FRONTEND
from sampan.cancellation import together
from sampan.dockerfile.source import DockerfileError
from sampan.errors import (
    InvalidArgumentError,
    NotFoundError,
    ResourceExhaustedError,
    SampanError,
    UnimplementedError,
)
from sampan.oci.reference import parse_reference

# Frontend images that the built-in frontend stands in for.
_OURS: Final = frozenset(("docker/dockerfile", "docker/dockerfile-upstream"))

_MAX_REFS: Final = 10_000  # of one build
_MAX_LED: Final = 50  # excerpts of lines that led to the one that is to blame
# A definition of more bytes is read in a thread: it takes its time.
_LARGE_BYTES: Final = 100_000


class Frontend(Protocol):
    """Turns what a client says into a graph."""

    async def build(self, attributes: Mapping[str, str], inputs: Mapping[str, Edge], bridge: Bridge) -> Result:
        """See ``buildd.frontend.frontend.DockerfileFrontend``."""


def attributes_for(name: str, attributes: Mapping[str, str]) -> Mapping[str, str] | None:
    """Return the built-in frontend's attributes for a request of ``name``; None: an image that is not ours.

    Raises:
        InvalidArgumentError: no such frontend, or ``gateway.v0`` without an image.
    """
    if name == DOCKERFILE_FRONTEND:
        return attributes
    if name != GATEWAY:
        raise InvalidArgumentError(f"invalid frontend: {name}")
    source = attributes.get("source", "")
    if not source:
        raise InvalidArgumentError("no source specified for gateway")
    if parse_reference(source).familiar_name not in _OURS:
        return None
    # What the image's command line would be: the syntax directive that has led here is not looked at again.
    return {"cmdline": source, **{key: value for key, value in attributes.items() if key != "source"}}


@dataclass(frozen=True, slots=True)
class Ref:
    """One result of a build, which may not have run."""

    id: str
    key: str  # in its result
    edge: Edge
    result: Result  # that it is of

    @property
    def source(self) -> SourceFile | None:
        """What the positions of its graph are in."""
        return self.result.source

    @property
    def said(self) -> tuple[Said, ...]:
        """What is said of it; of an only output all that is said, whatever platform it names."""
        several = self.result.said
        return several.get(self.key, ()) if self.key else tuple(each for said in several.values() for each in said)


class Refs:
    """What clients name by ID."""

    def __init__(self) -> None:
        self._known: dict[str, Ref] = {}

    def add(self, key: str, edge: Edge, result: Result) -> Ref:
        """Name a result. ResourceExhaustedError: there are too many."""
        if len(self._known) >= _MAX_REFS:
            raise ResourceExhaustedError(f"a build has {_MAX_REFS} results at most")
        ref = Ref(secrets.token_hex(12), key, edge, result)
        self._known[ref.id] = ref
        return ref

    def get(self, id: str) -> Ref:
        """Return a result. NotFoundError."""
        ref = self._known.get(id)
        if ref is None:
            raise NotFoundError(f"no such ref: {id!r}")
        return ref


class Results:
    """Makes and runs results."""

    def __init__(
        self,
        run: Build,
        graphs: Graphs,
        frontend: Frontend,
        bridge: Bridge,
        caches: BuildCaches,
        frontends: Forwarder,
        judge: SourceJudge,
    ) -> None:
        self._judge = judge
        self._frontends = frontends
        self._run = run
        self._graphs = graphs
        self._caches = caches
        self._frontend = frontend
        self._bridge = bridge

    async def make(self, request: GatewayRequest) -> Result:
        """Return the graph that a definition is, or that a frontend makes; nothing of it has to have run.

        Raises:
            LocatedError: a step that the frontend needed has failed, or its file cannot be built.
            SampanError: as ``Graphs.load`` and ``attributes_for``.
        """
        if request.policies and request.frontend:
            raise UnimplementedError("source policies are for definitions: a frontend is asked to make a result")
        if request.definition is not None and request.frontend:
            raise InvalidArgumentError("cannot solve with both Definition and Frontend specified")
        await self._caches.load((*request.cache_imports, *imports_of(request.frontend_attributes)))
        if request.frontend:
            attributes = attributes_for(request.frontend, request.frontend_attributes)
            try:
                if attributes is None:
                    result = await self._frontends.build(request.frontend_attributes, request.frontend_inputs)
                else:
                    inputs = {name: await self._given(name, data) for name, data in request.frontend_inputs.items()}
                    result = await self._frontend.build(attributes, inputs, self._bridge)
            except SampanError as error:
                raise self.located(error) from error
            if result.frontend and attributes is not None:  # the built-in one has led to another one
                return result
            return replace(result, frontend=request.frontend, attributes=request.frontend_attributes)
        edge = await self._load(request.definition, request.policies) if request.definition is not None else None
        return Result({"": edge})

    async def _given(self, name: str, definition: bytes) -> Edge:
        edge = await self._load(definition)
        if edge is None:
            raise InvalidArgumentError(f"frontend input {name} is an empty definition")
        return edge

    async def _load(self, definition: bytes, policies: Policies = ()) -> Edge | None:
        taken = self._judge.beside(policies).by_rules if policies else None
        if len(definition) < _LARGE_BYTES:
            return self._graphs.load(definition, taken)
        return await asyncio.to_thread(self._graphs.load, definition, taken)

    async def output(self, edge: Edge, source: SourceFile | None) -> Output:
        """Run a graph. LocatedError."""
        try:
            return await self._run.solve(edge)
        except SampanError as error:
            raise self.located(error, source) from error

    async def outputs(self, result: Result) -> Mapping[str, Output | None]:
        """Run all graphs of a result at the same time. LocatedError: the first that fails."""

        async def one(edge: Edge | None) -> Output | None:
            return await self.output(edge, result.source) if edge is not None else None

        found = await together(one(edge) for edge in result.edges.values())
        return dict(zip(result.edges, found, strict=True))

    def located(self, error: SampanError, source: SourceFile | None = None) -> SampanError:
        """Return an error with what clients show of it; ``source`` is the file that no definition has named."""
        if isinstance(error, StepError):
            file = self._graphs.source_of(error.vertex) or source
            lines = [(each.first_line, each.last_line) for each in error.positions]
            return LocatedError(error.cause, file if lines else None, lines, error.vertex)
        if isinstance(error, DockerfileError):
            cause = self.located(error.__cause__) if isinstance(error.__cause__, SampanError) else None
            vertex = cause.vertex if isinstance(cause, LocatedError) else None
            if error.lines is None or not error.data:
                return LocatedError(error, vertex=vertex)
            file = SourceFile(error.file_name, error.data)
            located: SampanError = error
            for at in (*error.before[-_MAX_LED:], error.lines):
                located = LocatedError(located, file, ((at.first, at.last),), vertex)
            return located
        return error
