"""What runtimed does with a container beside running it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import (
    ContainerSpec,
    LogConfig,
    Mount,
    MountType,
    Namespaces,
    Process,
    Resources,
    RestartPolicy,
)
from sampan.store.database import Store
from tests.fakes.runtimed_engine import Engine, World, check_consistent, patch_kernel

SPEC = ContainerSpec(name="web", chain_id="base", process=Process(cmd=("serve",)))


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    async with Store(tmp_path / "metadata.db", "runtimed.schema", durable=False) as store:
        world = World(store, tmp_path)
        patch_kernel(monkeypatch, lambda: world.host)
        async with world.engine() as engine:
            yield engine


@pytest.mark.parametrize(
    "spec",
    [
        replace(SPEC, mounts=(Mount(MountType.VOLUME, "/data", "data", propagation="rslave"),)),
        replace(SPEC, log=LogConfig("json-file", {"colour": "red"})),
        replace(SPEC, restart_policy=RestartPolicy("always", 3)),
        replace(SPEC, namespaces=Namespaces(uts="odd")),
        replace(SPEC, resources=Resources(memory_bytes=1)),
    ],
)
async def test_what_cannot_be_meant_is_refused_whoever_asks_for_it(engine: Engine, spec: ContainerSpec) -> None:
    with pytest.raises(InvalidArgumentError):
        await engine.containers.create(spec)
    check_consistent(engine)
    assert (engine.one(), engine.host.volumes) == (None, {})


async def test_an_update_to_what_cannot_be_meant_changes_nothing(engine: Engine) -> None:
    await engine.containers.create(SPEC)
    entry = engine.one()
    assert entry is not None
    with pytest.raises(InvalidArgumentError, match="Minimum memory limit allowed is 6MB"):
        await engine.containers.update(entry, Resources(memory_bytes=1), None)
    with pytest.raises(InvalidArgumentError, match="unknown policy 'often'"):
        await engine.containers.update(entry, None, RestartPolicy("often"))
    assert (entry.container.spec.resources, entry.container.spec.restart_policy) == (Resources(), RestartPolicy())
