"""Work that builds share: what runs, by cache key."""

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from buildd.cache.model import About
from buildd.cache.results import Results
from buildd.executor.protocol import Executor
from buildd.llb.ops import ExecOp, FileOp, Node, SourceOp
from buildd.meter import UNMETERED, Meter, Phase
from buildd.protocol import FileWorker, Output, Pinned, Sources, Tree, Trees
from buildd.solver.context import Work
from buildd.solver.flights import Flight, Flights
from sampan.cancellation import to_the_end
from sampan.errors import NotFoundError, UnimplementedError
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class Parts:
    """What does the work."""

    sources: Sources
    files: FileWorker
    trees: Trees
    executor: Executor
    results: Results
    platform: Platform  # of a source that names none
    now_ns: Callable[[], int]  # since the epoch
    reach: Callable[[], Awaitable[None]]  # returns when the engine's other services can be called
    meter: Meter = UNMETERED


@dataclass(frozen=True, slots=True)
class Done:
    """What work has come to; as long as its holding lasts."""

    outputs: tuple[Output, ...]
    ids: tuple[str, ...] = ()  # of its records


Run: TypeAlias = Callable[[Work], Coroutine[None, None, Done]]


class SharedWorks:
    """What runs at the moment for all builds."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._flights: Flights[tuple[Digest, bool], Done] = Flights()
        self._works: dict[Flight[Done], Work] = {}

    def begin(self, key: Digest, run: Run, name: str, *, ignore_cache: bool = False) -> tuple[Flight[Done], Work]:
        """Return the work of ``key`` that is under way, or begin it; whoever gets it joins it at once.

        With ``ignore_cache`` it is work that was begun in spite of the cache, which is good for others too.
        """
        flight = self._flights.get((key, True)) or (None if ignore_cache else self._flights.get((key, False)))
        if flight is None:
            work = Work()
            flight = self._flights.begin((key, ignore_cache), lambda: run(work), name)
            self._works[flight] = work
            flight.task.add_done_callback(lambda _: self._works.pop(flight, None))
        return flight, self._works[flight]

    def operation(self, node: Node, inputs: Sequence[Output], key: Digest, about: About, quick: Digest | None) -> Run:
        """Return how a step is run and recorded."""

        async def run(work: Work) -> Done:
            with self.parts.meter.timed(Phase.RUN):
                outputs = await self._carry_out(node, inputs, work)
            done = await self._record(key, outputs, about, work, quick)
            for output in outputs:
                # Whoever uses it needs that; and a layer that was never stacked stays when its record goes.
                await self.parts.trees.ready(output)
            self.parts.trees.recorded(outputs)
            return done

        return run

    def fetch(self, op: SourceOp, pinned: Pinned, platform: Platform, key: Digest, about: About) -> Run:
        """Return how a source is fetched, and recorded if its pin tells its files."""

        async def run(work: Work) -> Done:
            output = await self.parts.sources.fetch(op, pinned, platform, work)
            if not pinned.key or not isinstance(output, Tree):
                return Done((output,))
            try:
                return await self._record(key, (output,), about, work, None)
            except NotFoundError:  # layers that are fetched when they are needed: nothing is here to be kept
                return Done((output,))

        return run

    async def _carry_out(self, node: Node, inputs: Sequence[Output], work: Work) -> Sequence[Tree]:
        match node.op:
            case ExecOp() as op:
                said = node.metadata
                return await self.parts.executor.run(op, inputs, node.platform, work, said.limits, said.network_mode)
            case FileOp() as op:
                return await self.parts.files.change(op, inputs, work)
        raise UnimplementedError(f"operation {type(node.op).__name__} cannot be run")

    async def _record(
        self, key: Digest, outputs: Sequence[Tree], about: About, work: Work, quick: Digest | None
    ) -> Done:
        if not outputs:  # a process whose changes nobody wants
            return Done(())
        # To the end: what was made and has no record is found by nobody.
        return await to_the_end(self._add(key, outputs, about, work, quick))

    async def _add(self, key: Digest, outputs: Sequence[Tree], about: About, work: Work, quick: Digest | None) -> Done:
        found = await self.parts.results.add(key, outputs, about, quick)
        await work.holding.at_last(lambda: self.parts.results.let_go(found.ids))
        return Done(found.outputs, found.ids)

    async def close(self) -> None:
        """End everything."""
        await self._flights.close()
