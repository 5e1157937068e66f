import itertools
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runtimed.containers.memory_store import Registry, check_move
from runtimed.containers.model import ALLOWED, Container, ContainerState, Status
from runtimed.containers.spec import ContainerSpec
from runtimed.containers.store import ContainerStore, Intent
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.store.database import Store

NOW = datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ContainerStore]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema") as opened:
        yield ContainerStore(opened)


@pytest.fixture
def registry(store: ContainerStore) -> Registry:
    return Registry(store, random.Random(0))


def container(digit: str, name: str) -> Container:
    return Container(digit * 64, ContainerSpec(name=name), NOW, runtime="runc", cgroup_path="/sampan/x")


@pytest.mark.parametrize(("old", "new"), tuple(itertools.product(Status, Status)))
def test_only_the_moves_of_the_table_are_possible(old: Status, new: Status) -> None:
    if new in ALLOWED[old]:
        check_move(old, new)
    else:
        with pytest.raises(ConflictError):
            check_move(old, new)


def test_every_state_but_dead_leads_somewhere_and_removal_is_never_taken_back() -> None:
    assert all(ALLOWED[status] - {status} for status in Status)
    assert ALLOWED[Status.REMOVING] <= {Status.REMOVING, Status.DEAD}


async def test_a_container_that_is_being_created_is_found_by_nobody_but_holds_its_name(registry: Registry) -> None:
    entry = await registry.add(container("a", "web"))
    with pytest.raises(NotFoundError):
        registry.find("web")
    with pytest.raises(ConflictError, match=r'"/web" is already in use by container "a{64}"'):
        await registry.add(container("b", "web"))
    entry.intent = Intent.SETTLED
    assert registry.find("web") is registry.find("/web") is registry.find("a") is entry


async def test_an_ambiguous_prefix_is_refused_and_a_name_wins_over_a_prefix(registry: Registry) -> None:
    for one in (container("a", "x1"), container("b", "aa")):
        (await registry.add(one)).intent = Intent.SETTLED
    other = Container("a" * 32 + "c" * 32, ContainerSpec(name="x2"), NOW)
    (await registry.add(other)).intent = Intent.SETTLED
    assert registry.find("aa").container.name == "aa"
    with pytest.raises(InvalidArgumentError, match="multiple IDs found with provided prefix: aaa"):
        registry.find("aaa")
    assert registry.find("a" * 33).container.name == "x1"
    with pytest.raises(NotFoundError, match="No such container: zzz"):
        registry.find("zzz")


async def test_another_process_reads_what_was_recorded(registry: Registry, store: ContainerStore) -> None:
    entry = await registry.add(container("a", "old"))
    await registry.set_state(entry, ContainerState(Status.RUNNING, pid=7, started_at=NOW))
    await registry.rename(entry, "new")
    await registry.set_state(entry, ContainerState(Status.EXITED, exit_code=3), restart_count=2)
    again = Registry(store, random.Random(0))
    await again.load()
    found = again.find("new")
    assert found.container == entry.container
    assert found.container.restart_count == 2
    assert found.down.is_set()
    with pytest.raises(NotFoundError):
        again.find("old")


async def test_a_move_that_is_not_allowed_changes_nothing(registry: Registry, store: ContainerStore) -> None:
    entry = await registry.add(container("a", "web"))
    with pytest.raises(ConflictError):
        await registry.set_state(entry, ContainerState(Status.PAUSED))
    assert entry.status is Status.CREATED
    assert (await store.containers())[0].container.state.status is Status.CREATED


async def test_a_removed_containers_name_is_free(registry: Registry) -> None:
    await registry.remove(await registry.add(container("a", "web")))
    await registry.add(container("b", "web"))
