from datetime import UTC, datetime

from runtimed.containers.columns import from_json, to_json
from sampan.resource.container import Container, ContainerState, MountPoint, Status
from sampan.resource.container_spec import (
    ConsoleSize,
    ContainerSpec,
    Endpoint,
    HealthCheck,
    Mount,
    MountType,
    Process,
    Resources,
    Ulimit,
)

SPEC = ContainerSpec(
    name="a",
    process=Process(cmd=("sh", "-c", "é\n"), console_size=ConsoleSize(1, 2), tty=True),
    labels={"k": "v"},
    mounts=(Mount(MountType.TMPFS, "/t", tmpfs_mode=0o700),),
    endpoints=(Endpoint("net", aliases=("x", "y"), driver_options={"a": "b"}),),
    resources=Resources(memory_bytes=1, ulimits=(Ulimit("nofile", 1, 2),), memory_swappiness=0),
    health_check=HealthCheck(("CMD", "x"), interval_s=1.5),
    stop_timeout_s=0.0,
    docker=b"\0\xff",
)


def test_a_record_comes_back_equal() -> None:
    assert from_json(ContainerSpec, to_json(SPEC)) == SPEC
    state = ContainerState(Status.EXITED, exit_code=3, finished_at=datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    assert from_json(ContainerState, to_json(state)) == state
    mounts = (MountPoint(MountType.BIND, "/a", "/b"), MountPoint(MountType.VOLUME, "/c", "/d", name="v"))
    assert from_json(tuple[MountPoint, ...], to_json(mounts)) == mounts


def test_defaults_take_no_space_and_are_read_where_nothing_is_written() -> None:
    assert to_json(ContainerSpec()) == "{}"
    assert from_json(ContainerSpec, "{}") == ContainerSpec()


def test_a_field_that_was_dropped_is_ignored() -> None:
    assert from_json(ConsoleSize, '{"height":1,"width":2,"depth":3}') == ConsoleSize(1, 2)


def test_a_value_equal_to_no_default_is_kept_though_it_is_empty() -> None:
    assert from_json(MountPoint, to_json(MountPoint(MountType.BIND, "", "", read_write=False))).read_write is False
    assert Container("0" * 64, SPEC, datetime.now(UTC)).name == "a"
