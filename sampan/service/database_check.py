"""The databases of a service, as what ``sampan system check`` looks at."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from sampan.check import DATABASE, Amount, Finding, Means, Outcome, Step
from sampan.store import repair as store_repair


class DatabaseCheck:
    """Satisfies ``Checker`` for a service's database."""

    kinds = (DATABASE,)

    def __init__(self, path: Path, examine: Callable[[], Awaitable[str]], restart: Callable[[], None]) -> None:
        """``examine`` returns what is wrong with the database.

        ``restart`` has the service begin anew, which is when a repair that was asked for is done.
        """
        self._path = path
        self._examine = examine
        self._restart = restart
        self._what = f"database {path}"

    async def check(self, *, quick: bool) -> AsyncGenerator[Step, None]:
        """See ``Checker``; a database is small, and always read whole."""
        del quick
        yield Amount(self._what, 0, 1)
        problem = await self._examine()
        if problem:
            yield Finding(
                DATABASE,
                f"{self._path.parent.name}/{self._path.name}",
                problem,
                "set it aside, and put in its place what can be read of it, or the copy of it",
                str(self._path),
            )
        yield Amount(self._what, 1, 1)

    async def repair(self, finding: Finding, means: Means) -> Outcome:
        """See ``Checker``."""
        del finding, means
        if not await self._examine():
            return Outcome(repaired=True, text="it is whole")
        await asyncio.to_thread(store_repair.ask, self._path)
        self._restart()
        return Outcome(repaired=False, text="the service begins anew", restarting=True)


def unopened(path: Path, restart: Callable[[], None]) -> DatabaseCheck:
    """Return the check of a database that the service could not open."""
    return DatabaseCheck(path, lambda: asyncio.to_thread(store_repair.examine, path), restart)
