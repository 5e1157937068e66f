"""What builds leave in the history."""

import asyncio
import json
import zlib
from contextlib import aclosing

import pytest

from buildd.build.protocol import GatewayRequest
from buildd.history.history import _MOST_BUILDS
from buildd.history.model import BuildRecord, Happened, HistoryQuery
from buildd.wire.services.progress import status_to_proto
from sampan.build.progress import Vertex
from sampan.build.request import Export
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, SampanError
from sampan.oci.digest import Digest
from tests.fakes.buildd import Gate, failing
from tests.unit.buildd.build.building import Building

RUN = "/bin/sh -c make"


async def now(building: Building, **query: object) -> list[tuple[Happened, BuildRecord]]:
    await building.builds.close()
    asked = HistoryQuery(**{"early_exit": True, **query})  # type: ignore[arg-type]
    return [event async for event in building.builds.history(asked)]


async def test_a_build_is_remembered_with_what_it_asked_for_and_came_to(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    await building.builds.solve(building.request(exports=(Export("image", {"name": "app"}, "0"),)))
    await building.builds.solve(building.request("second"))
    (happened, record), (_, second) = await now(building)
    assert happened is Happened.COMPLETE
    assert (record.ref, record.frontend, record.response) == ("build", "dockerfile.v0", {"image.name": "app"})
    assert record.exports == (Export("image", {"name": "app"}, "0"),)
    assert 0 < record.created_ns < record.completed_ns
    assert record.error == ""
    assert (record.cached_steps, record.completed_steps) == (0, record.total_steps)
    assert second.cached_steps == 2


async def test_an_error_is_remembered(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    building.bench.executor.behaviours[RUN] = failing
    with pytest.raises(SampanError):
        await building.builds.solve(building.request())
    ((_, record),) = await now(building)
    assert record.error.endswith("did not complete successfully: exit code: 7")


async def test_what_a_client_has_driven_is_remembered_by_its_frontend(building: Building) -> None:
    building.dockerfile("FROM base\n")
    build = asyncio.create_task(building.builds.solve(building.request(frontend="")))
    gateway = await building.builds.gateway("build")
    await gateway.solve(GatewayRequest(frontend="dockerfile.v0", frontend_attributes={"target": ""}))
    gateway.give({}, {})
    await build
    ((_, record),) = await now(building)
    assert (record.frontend, record.attributes) == ("dockerfile.v0", {"target": ""})


async def test_an_internal_build_is_not_remembered(building: Building) -> None:
    building.dockerfile("FROM base\n")
    await building.builds.solve(building.request(internal=True))
    assert await now(building) == []


async def test_how_a_build_went_is_told_long_after_it(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    await building.builds.solve(building.request())
    soon = await building.told()
    for number in range(6):
        await building.builds.solve(building.request(f"another {number}"))
    await building.builds.close()
    late = await building.told()
    assert [each for each in late if isinstance(each, Vertex)] == [each for each in soon if isinstance(each, Vertex)]
    assert sorted(map(repr, late)) == sorted(map(repr, soon))


async def test_a_listener_is_told_what_happens(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    gate = Gate({})
    building.bench.executor.behaviours[RUN] = gate
    build = asyncio.create_task(building.builds.solve(building.request()))
    await gate.running.wait()
    async with aclosing(building.builds.history(HistoryQuery())) as events:
        assert [(await anext(events))[0]] == [Happened.STARTED]
        with pytest.raises(ConflictError):
            await building.builds.forget("build")
        gate.go.set()
        await build
        assert (await anext(events))[0] is Happened.COMPLETE
        await building.builds.pin("build", pinned=True)
        assert (await anext(events))[1].pinned
        await building.builds.forget("build")
        assert await anext(events) == (Happened.DELETED, BuildRecord("build"))
    with pytest.raises(NotFoundError):
        await building.builds.forget("build")
    with pytest.raises(NotFoundError):
        await building.builds.pin("build", pinned=True)


async def test_the_oldest_builds_are_forgotten_but_for_those_that_are_pinned(building: Building) -> None:
    building.dockerfile("FROM base\n")
    for number in range(_MOST_BUILDS + 3):
        await building.builds.solve(building.request(f"{number}", frontend="", definition=b""))
        await building.builds.close()
        if number == 0:
            await building.builds.pin("0", pinned=True)
    found = [record.ref for _, record in await now(building)]
    assert len(found) == _MOST_BUILDS + 1
    assert found[:2] == ["0", "3"]
    assert [record.ref for _, record in await now(building, limit=2)] == found[-2:]
    assert [record.ref for _, record in await now(building, ref="5")] == ["5"]
    assert await now(building, active_only=True) == []


async def test_a_record_names_its_log_and_its_provenance_by_digest(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    await building.builds.solve(building.request(frontend_attributes={"build-arg:A": "b"}))
    ((_, record),) = await now(building)
    assert record.log is not None
    log = await building.builds.blob(Digest(record.log.digest))
    assert (len(log), Digest.of(log)) == (record.log.size, record.log.digest)
    assert b"RUN make" in log
    ((attestation,),) = record.attestations.values()
    predicate = json.loads(await building.builds.blob(Digest(attestation.digest)))
    assert predicate["buildDefinition"]["externalParameters"]["request"]["args"] == {"build-arg:A": "b"}
    await building.builds.forget("build")
    for digest in (record.log.digest, attestation.digest):
        with pytest.raises(NotFoundError):
            await building.builds.blob(Digest(digest))


async def test_an_error_is_kept_with_its_details(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    building.bench.executor.behaviours[RUN] = failing
    with pytest.raises(SampanError):
        await building.builds.solve(building.request())
    ((_, record),) = await now(building)
    assert record.failure is not None
    details = await building.builds.blob(Digest(record.failure.digest))
    assert b"exit code: 7" in details
    assert b"errdefs.Source" in details


@pytest.mark.parametrize(
    ("filters", "refs"),
    [
        ((), ["good", "bad"]),
        (("status==error",), ["bad"]),
        (("status==completed",), ["good"]),
        (("status==completed,duration>1h",), []),
        (("ref==good", "ref==bad"), ["good", "bad"]),
        (("ref~=^b",), ["bad"]),
        (("completedAt>1970-01-01T00:00:00Z,startedAt<24h",), ["good", "bad"]),
        (("repository==https://host/r",), ["good"]),
    ],
)
async def test_builds_are_filtered(building: Building, filters: tuple[str, ...], refs: list[str]) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    await building.builds.solve(building.request("good", frontend_attributes={"vcs:source": "https://host/r"}))
    building.dockerfile("FROM base\nRUN fail\n")
    building.bench.executor.behaviours["/bin/sh -c fail"] = failing
    with pytest.raises(SampanError):
        await building.builds.solve(building.request("bad"))
    assert [record.ref for _, record in await now(building, filters=filters)] == refs


@pytest.mark.parametrize("text", ["startedAt>soon", "duration>long", "status=", '"'])
async def test_a_filter_that_cannot_be_is_refused(building: Building, text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        await now(building, filters=(text,))


async def test_a_build_from_before_logs_had_digests_is_still_told(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    await building.builds.solve(building.request())
    await building.builds.close()
    soon = await building.told()
    single = zlib.compress(status_to_proto(soon).SerializeToString())
    await building.bench.store.write(lambda db: db.execute("UPDATE builds SET updates = ?, log_digest = ''", (single,)))
    assert len(await building.builds._parts.history.updates("build")) == len(soon)
