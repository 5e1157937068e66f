from datetime import UTC, datetime
from typing import Any

import pytest

from sampan.resource.container import (
    ContainerDetails,
    ContainerState,
    MountPoint,
    NetworkSettings,
    PublishedPort,
    Status,
)
from sampan.resource.container_spec import ContainerSpec, MountType, Process
from sampan_cli.commands.container.ps import asks_for_size, container_row

NOW_S = 1_000_000.0


@pytest.mark.parametrize(
    ("template", "asks"),
    [
        ("", False),
        ("table {{.Names}}", False),
        ("table {{.Names}}\t{{.Size}}", True),
        ("json", True),
        ("{{json .}}", True),
        ("{{ json . }}", True),
        ("{{json .Names}}", False),
    ],
)
def test_sizes_are_looked_for_where_they_are_shown(template: str, asks: bool) -> None:
    assert asks_for_size(template) is asks


def details(**fields: Any) -> ContainerDetails:
    return ContainerDetails("a" * 64, ContainerSpec(), datetime.fromtimestamp(NOW_S, UTC), **fields)


def test_size_shows_what_is_written_and_all_that_is_seen() -> None:
    container = details(size_rw_bytes=4096)
    assert container_row(container, NOW_S, trunc=True)["Size"] == "4.1kB"
    assert container_row(container, NOW_S, trunc=True, root_bytes=2_000_000)["Size"] == "4.1kB (virtual 2MB)"


def test_local_volumes_are_those_that_no_plugin_keeps() -> None:
    own, plugins = (
        MountPoint(MountType.VOLUME, "/s", f"/{driver}", name="v", driver=driver) for driver in ("local", "depot")
    )
    bind = MountPoint(MountType.BIND, "/s", "/bind")
    row = container_row(details(mounts=(own, plugins, bind)), NOW_S, trunc=True)
    assert (row["LocalVolumes"], row["Mounts"]) == ("1", "v,v,/s")


def test_a_command_stands_in_quotes_as_a_text_of_go() -> None:
    container = ContainerDetails(
        "a" * 64,
        ContainerSpec(process=Process(cmd=("sh", "-c", 'echo "é"\n\x1b[0m'))),
        datetime.fromtimestamp(NOW_S, UTC),
    )
    row = container_row(container, NOW_S, trunc=False)
    assert row["Command"] == r'''"sh -c 'echo \"é\"\n\x1b[0m'"'''


def test_a_stopped_container_shows_no_ports() -> None:
    network = NetworkSettings(ports=(PublishedPort(80, "tcp", "0.0.0.0", 8080),))
    running = details(state=ContainerState(Status.RUNNING, started_at=datetime.fromtimestamp(0, UTC)), network=network)
    stopped = details(state=ContainerState(Status.EXITED), network=network)
    assert container_row(running, NOW_S, trunc=True)["Ports"] == "0.0.0.0:8080->80/tcp"
    assert container_row(stopped, NOW_S, trunc=True)["Ports"] == ""
