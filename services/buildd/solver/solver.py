"""Runs graphs for builds: see ``build`` for one of them, ``shared`` for what they have in common.

async with solver.open(Asker(ref, progress, sessions, entitlements, digest_of=…)) as build:
    output = await build.solve(edge)                       # as often as a frontend asks
    async with build.step("exporting to image") as context:
        await exporters.export(…, context, …)

Within a build a vertex is one by its digest, as the client knows it. Across builds work is one by its cache key, which
does not know where a graph came from: two clients with the same files share all that follows from them. What a step
has told its builds so far is told to one that joins it later, too.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from buildd.solver.build import Asker, Build
from buildd.solver.shared import Parts, SharedWorks
from sampan.cancellation import to_the_end
from sampan.errors import UnavailableError


class Solver:
    """Runs each step once however many builds want it at the same time, and none that nobody needs."""

    def __init__(self, parts: Parts, after_build: Callable[[], None] = lambda: None) -> None:
        """``after_build`` is called whenever a build has let go of what it used: the cache may be collected then."""
        self._works = SharedWorks(parts)
        self._after_build = after_build
        self._builds: set[Build] = set()
        self._closed = False

    @asynccontextmanager
    async def open(self, asker: Asker) -> AsyncIterator[Build]:
        """Yield a build. At the end, whatever only it wants is cancelled, and its outputs are let go of.

        Raises:
            UnavailableError: the builder stops.
        """
        if self._closed:
            raise UnavailableError("the builder stops")
        build = Build(asker, self._works)
        self._builds.add(build)
        try:
            yield build
        finally:
            self._builds.discard(build)
            try:
                # To the end: a client that leaves while its build is being closed would have it hold what it used.
                await to_the_end(build.close())
            finally:
                self._after_build()

    @property
    def running(self) -> int:
        """How many builds there are."""
        return len(self._builds)

    async def close(self) -> None:
        """End all builds, and refuse new ones. Whoever waits for one is told that the builder stops.

        Processes of steps have ended when this returns, and their snapshots are removed.
        """
        self._closed = True
        for build in tuple(self._builds):
            await build.close()
        await self._works.close()
