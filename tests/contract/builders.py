"""What builders owe: the service to its servicers, and its client to whoever stands before it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest

from buildd.build.protocol import Builder as Builds
from buildd.history.model import CANCELLED, BuildRecord, Happened, HistoryQuery
from sampan.build.progress import Update, Vertex
from sampan.build.protocols import Builder, Served
from sampan.build.request import PruneOptions, SolveRequest
from sampan.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    SampanError,
)
from sampan.oci.digest import Digest
from tests.contract.build_parts import CacheContract


@dataclass(frozen=True, slots=True)
class Work:
    """Builds to ask for: one that makes the image "app", one whose step exits with 7, one that goes on and on."""

    good: Callable[[], SolveRequest]
    bad: Callable[[], SolveRequest]
    stuck: Callable[[], SolveRequest]
    running: Callable[[], Awaitable[object]]  # returns when the last is at work
    cancelled: Callable[[], Awaitable[object]]  # returns when it is no more


@dataclass(frozen=True, slots=True)
class BuilderParts:
    builder: Builder  # with a record or more in its cache
    work: Work


@dataclass(frozen=True, slots=True)
class BuildsParts:
    builds: Builds  # which grants security.insecure to nobody
    work: Work


async def no_bytes() -> AsyncIterator[bytes]:
    return
    yield


class BuilderContract:
    """Of ``sampan.build.protocols.Builder``; subclass with a fixture ``parts``."""

    promises: tuple[type, ...] = (Builder,)

    async def test_a_build_is_told_from_its_beginning_to_its_end(self, parts: BuilderParts) -> None:
        request = parts.work.good()

        async def told() -> list[Update]:
            found: list[Update] = []
            async for some in parts.builder.status(request.ref):
                assert some.encoded
                found += some.updates
            return found

        telling = asyncio.create_task(told())
        response = await parts.builder.solve(request)
        assert response.exporter_response["image.name"] == "app"
        vertexes = {each.digest: each for each in await telling if isinstance(each, Vertex)}
        assert vertexes
        assert all(each.completed_ns for each in vertexes.values())

    async def test_a_build_that_fails_says_how(self, parts: BuilderParts) -> None:
        with pytest.raises(SampanError, match="exit code: 7"):
            await parts.builder.solve(parts.work.bad())

    async def test_a_solve_that_is_cancelled_cancels_the_build(self, parts: BuilderParts) -> None:
        solving = asyncio.create_task(parts.builder.solve(parts.work.stuck()))
        await parts.work.running()
        solving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await solving
        await parts.work.cancelled()

    async def test_what_is_pruned_is_told_and_gone(self, parts: BuilderParts) -> None:
        there = {each.id for each in await parts.builder.usage()}
        assert there
        assert {each.id async for each in parts.builder.prune(PruneOptions(all=True))} == there
        assert list(await parts.builder.usage()) == []

    async def test_a_filter_that_cannot_be_is_refused(self, parts: BuilderParts) -> None:
        with pytest.raises(InvalidArgumentError):
            await parts.builder.usage(("colour~=(",))
        with pytest.raises(InvalidArgumentError):
            assert [each async for each in parts.builder.prune(PruneOptions(("colour~=(",)))] == []

    async def test_each_session_has_an_id_of_its_own(self, parts: BuilderParts) -> None:
        async with parts.builder.serve(Served()) as one, parts.builder.serve(Served()) as other:
            assert one
            assert one != other

    async def test_a_session_ends_with_what_its_owner_sends(self, parts: BuilderParts) -> None:
        headers = [("x-docker-expose-session-uuid", "owner")]
        async for piece in parts.builder.session(headers, no_bytes()):
            assert piece

    async def test_others_may_speak_to_it_themselves(self, parts: BuilderParts) -> None:
        reader, writer = await parts.builder.connect()
        assert not reader.at_eof()
        writer.close()
        await writer.wait_closed()


class BuildsContract(CacheContract):
    """Of ``buildd.build.protocol.Builder``; subclass with a fixture ``parts``."""

    promises: tuple[type, ...] = (Builds,)

    @pytest.fixture
    def cache(self, parts: BuildsParts) -> Builds:
        return parts.builds

    async def _told(self, builds: Builds, ref: str) -> list[Update]:
        return [update async for updates in builds.status(ref) for update in updates]

    async def _remembered(self, builds: Builds) -> Sequence[BuildRecord]:
        events = builds.history(HistoryQuery(early_exit=True))
        return [record async for happened, record in events if happened is Happened.COMPLETE]

    async def test_a_build_is_told_alike_while_it_goes_on_and_afterwards(self, parts: BuildsParts) -> None:
        request = parts.work.good()
        telling = asyncio.create_task(self._told(parts.builds, request.ref))
        await asyncio.sleep(0)
        response = await parts.builds.solve(request)
        assert response.exporter_response["image.name"] == "app"
        told = await telling
        assert any(isinstance(each, Vertex) and each.completed_ns for each in told)
        assert await self._told(parts.builds, request.ref) == told

    async def test_a_build_that_there_is_not_is_not_found(self, parts: BuildsParts) -> None:
        for asked in (
            self._told(parts.builds, "nosuch"),
            parts.builds.gateway("nosuch"),
            parts.builds.pin("nosuch", pinned=True),
            parts.builds.forget("nosuch"),
            parts.builds.blob(Digest.of(b"nothing")),
        ):
            with pytest.raises(NotFoundError):
                await asked

    async def test_a_build_that_goes_on_is_one_by_its_ref_and_not_forgotten(self, parts: BuildsParts) -> None:
        request = parts.work.stuck()
        solving = asyncio.create_task(parts.builds.solve(request))
        await parts.work.running()
        with pytest.raises(AlreadyExistsError):
            await parts.builds.solve(request)
        with pytest.raises(ConflictError):
            await parts.builds.forget(request.ref)
        solving.cancel()
        with suppress(asyncio.CancelledError):
            await solving
        await parts.work.cancelled()
        assert [each.error for each in await self._remembered(parts.builds)] == [CANCELLED]

    async def test_what_a_client_may_not_grant_is_refused(self, parts: BuildsParts) -> None:
        for name, kind in (("security.insecure", PermissionDeniedError), ("nosuch", InvalidArgumentError)):
            with pytest.raises(kind, match=name):
                await parts.builds.solve(replace(parts.work.good(), ref=name, entitlements=frozenset((name,))))

    async def test_builds_are_remembered_until_they_are_forgotten(self, parts: BuildsParts) -> None:
        good, bad = parts.work.good(), replace(parts.work.good(), ref="second")
        await parts.builds.solve(good)
        await parts.builds.solve(bad)
        assert [(each.ref, each.error) for each in await self._remembered(parts.builds)] == [
            (good.ref, ""),
            ("second", ""),
        ]
        await parts.builds.pin(good.ref, pinned=True)
        assert [each.pinned for each in await self._remembered(parts.builds)] == [True, False]
        await parts.builds.forget("second")
        assert [each.ref for each in await self._remembered(parts.builds)] == [good.ref]

    async def test_a_build_that_fails_is_remembered_with_its_error(self, parts: BuildsParts) -> None:
        with pytest.raises(SampanError, match="exit code: 7"):
            await parts.builds.solve(parts.work.bad())
        (record,) = await self._remembered(parts.builds)
        assert "exit code: 7" in record.error
        assert record.completed_ns

    def test_a_builder_says_for_which_platforms_it_is(self, parts: BuildsParts) -> None:
        (worker,) = parts.builds.workers()
        assert worker.id
        assert worker.platforms
