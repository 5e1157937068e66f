"""Where the disk has gone."""

import asyncio

from sampan.build.request import UsageRecord
from sampan.engine.df import CacheUse, cache_use
from sampan.errors import ServiceGoneError


class Builds:
    """A builder whose ``usage`` is the test's."""

    def __init__(self, answer: UsageRecord | ServiceGoneError | None) -> None:
        self._answer = answer
        self.builds = self

    async def usage(self) -> list[UsageRecord]:
        if self._answer is None:
            await asyncio.Event().wait()
        if isinstance(self._answer, ServiceGoneError):
            raise self._answer
        assert self._answer is not None
        return [self._answer]


async def test_a_builder_that_does_not_answer_is_missing_and_no_error() -> None:
    record = UsageRecord("a", 5)
    assert await cache_use(Builds(record)) == CacheUse((record,))  # type: ignore[arg-type] # as much as is asked for
    for silent in (None, ServiceGoneError("gone")):
        found = await cache_use(Builds(silent), deadline_s=0)  # type: ignore[arg-type] # as much as is asked for
        assert found.records == ()
        assert "service buildd does not answer" in found.missing
