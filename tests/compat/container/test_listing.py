"""``docker ps`` and ``docker inspect``: filters, formats and shapes."""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from tests.support.docker_client import DockerClient


@pytest.fixture(scope="module")
def crew(docker: DockerClient, image: str) -> Iterator[dict[str, str]]:
    """Three containers: one runs, one has ended with 3, one was never started."""
    label = "--label=crew=compat-listing"
    run = ("run", "--name")
    docker(*run, "crew-runs", "-d", label, "--label=role=runner", "-p", "127.0.0.1::80", image, "sleep", "3600")
    docker.fails(*run, "crew-ended", label, image, "sh", "-c", "exit 3")
    docker("create", "--name", "crew-created", label, image, "true")
    names = ("crew-runs", "crew-ended", "crew-created")
    yield {name.removeprefix("crew-"): docker("inspect", "--format", "{{.Id}}", name).line for name in names}
    docker("rm", "--force", *names)


def names(docker: DockerClient, *flags: str) -> set[str]:
    shown = docker("ps", "--filter", "label=crew=compat-listing", "--format", "{{.Names}}", *flags)
    return {name.removeprefix("crew-") for name in shown.lines}


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {"runs"}),
        (["-a"], {"runs", "ended", "created"}),
        (["-a", "--filter", "status=exited"], {"ended"}),
        (["-a", "--filter", "status=created", "--filter", "status=running"], {"created", "runs"}),
        (["-a", "--filter", "exited=3"], {"ended"}),
        (["-a", "--filter", "name=crew-e"], {"ended"}),
        (["-a", "--filter", "name=^/crew-created$"], {"created"}),
        (["-a", "--filter", "label=role"], {"runs"}),
        (["-a", "--filter", "label=role=runner"], {"runs"}),
        (["-a", "--filter", "label=role=other"], set()),
        (["-a", "--filter", "before=crew-ended"], {"runs"}),
        (["-a", "--filter", "since=crew-ended"], {"created"}),
        (["-a", "--filter", "publish=80"], set()),
        (["-a", "--filter", "network=none"], set()),
        (["-a", "--filter", "network=bridge", "--filter", "status=running"], {"runs"}),
        (["-n", "1"], {"created"}),
    ],
)
@pytest.mark.usefixtures("crew")
def test_filter_selects(docker: DockerClient, flags: list[str], expected: set[str]) -> None:
    assert names(docker, *flags) == expected


def test_filters_by_id_and_image_select(docker: DockerClient, image: str, crew: dict[str, str]) -> None:
    assert names(docker, "-a", "--filter", f"id={crew['ended'][:12]}") == {"ended"}
    assert names(docker, "-a", "--filter", f"ancestor={image}") == {"runs", "ended", "created"}


@pytest.mark.usefixtures("crew")
def test_unknown_filter_is_an_error(docker: DockerClient) -> None:
    failed = docker.fails("ps", "--filter", "nonsense=1")
    assert failed.code == 1
    assert "invalid filter" in failed.stderr.lower()


def test_columns_say_what_docker_says(docker: DockerClient, image: str, crew: dict[str, str]) -> None:
    shown = docker("ps", "--all", "--no-trunc", "--filter", f"id={crew['runs']}", "--format", "{{json .}}")
    row = json.loads(shown.line)
    assert (row["ID"], row["Image"], row["Names"]) == (crew["runs"], image, "crew-runs")
    assert (row["Command"], row["State"], row["Networks"]) == ('"sleep 3600"', "running", "bridge")
    assert re.fullmatch(r"Up (Less than a second|\d+ seconds?|About a minute|\d+ minutes)", row["Status"])
    assert re.fullmatch(r"127\.0\.0\.1:\d+->80/tcp", row["Ports"])
    ended = docker("ps", "--all", "--filter", f"id={crew['ended']}", "--format", "{{.Status}}|{{.Ports}}").line
    assert re.fullmatch(r"Exited \(3\) .* ago\|", ended)
    created = docker("ps", "--all", "--filter", f"id={crew['created']}", "--format", "{{.Status}}").line
    assert created == "Created"


def test_sizes_are_asked_for(docker: DockerClient, crew: dict[str, str]) -> None:
    shown = docker("ps", "--all", "--size", "--filter", f"id={crew['runs']}", "--format", "{{.Size}}").line
    assert re.fullmatch(r"\S+B \(virtual \S+B\)", shown)


def test_inspect_has_docker_s_shape(docker: DockerClient, image: str, crew: dict[str, str]) -> None:
    shown = json.loads(docker("inspect", "crew-runs").stdout)[0]
    assert shown["Id"] == crew["runs"]
    assert shown["Name"] == "/crew-runs"
    assert shown["Image"] == docker("image", "inspect", "--format", "{{.Id}}", image).line
    assert shown["Config"]["Image"] == image
    assert (shown["Path"], shown["Args"]) == ("sleep", ["3600"])
    state = shown["State"]
    assert (state["Running"], state["Paused"], state["Dead"], state["ExitCode"]) == (True, False, False, 0)
    assert state["Pid"] > 1
    for text in (shown["Created"], state["StartedAt"]):
        moment = datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z", r"\1+00:00", text))
        assert abs((datetime.now(UTC) - moment).total_seconds()) < 600
    assert state["FinishedAt"] == "0001-01-01T00:00:00Z"
    network = shown["NetworkSettings"]["Networks"]["bridge"]
    assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", network["IPAddress"])
    assert shown["NetworkSettings"]["IPAddress"] == network["IPAddress"]
    (binding,) = shown["NetworkSettings"]["Ports"]["80/tcp"]
    assert binding["HostIp"] == "127.0.0.1"
    assert int(binding["HostPort"]) > 0
    assert shown["HostConfig"]["NetworkMode"] in ("default", "bridge")
    assert shown["HostConfig"]["RestartPolicy"]["Name"] in ("", "no")


@pytest.mark.usefixtures("crew")
def test_mounts_are_shown(docker: DockerClient, image: str, container_name: Callable[[], str]) -> None:
    name = container_name()
    docker("create", "--name", name, "-v", "/tmp:/m:ro", image, "true")
    (mount,) = json.loads(docker("inspect", "--format", "{{json .Mounts}}", name).stdout)
    assert (mount["Type"], mount["Source"], mount["Destination"], mount["RW"]) == ("bind", "/tmp", "/m", False)


@pytest.mark.usefixtures("crew")
def test_beginning_of_an_id_is_enough(docker: DockerClient, crew: dict[str, str]) -> None:
    assert docker("inspect", "--format", "{{.Name}}", crew["ended"][:6]).line == "/crew-ended"


def test_info_counts_containers(docker: DockerClient, crew: dict[str, str]) -> None:
    shown = json.loads(docker("info", "--format", "{{json .}}").stdout)
    assert shown["Containers"] == shown["ContainersRunning"] + shown["ContainersPaused"] + shown["ContainersStopped"]
    assert shown["ContainersRunning"] >= 1
    assert shown["OSType"] == "linux"
    assert shown["NCPU"] >= 1
    assert shown["MemTotal"] > 1 << 28
    assert shown["Driver"]
    del crew


def test_every_list_shows_what_has_changed_since_the_last_one(
    docker: DockerClient, sleeper: str, container_name: Callable[[], str]
) -> None:
    def row(name: str) -> list[str]:
        shown = "{{.State}} {{.Networks}}"
        return docker("ps", "--all", "--filter", f"name=^{name}$", "--format", shown).line.split(" ")

    assert row(sleeper) == ["running", "bridge"]
    docker("pause", sleeper)
    assert row(sleeper) == ["paused", "bridge"]
    docker("unpause", sleeper)
    network = docker("network", "create", container_name()).line
    docker("network", "connect", network, sleeper)
    assert len(row(sleeper)[1].split(",")) == 2
    docker("network", "disconnect", network, sleeper)
    docker("network", "rm", network)
    assert row(sleeper) == ["running", "bridge"]
    renamed = container_name()
    docker("rename", sleeper, renamed)
    assert row(renamed) == ["running", "bridge"]
    docker("kill", renamed)
    docker("wait", renamed)
    assert row(renamed) == ["exited", "bridge"]
    docker("rm", renamed)
    assert row(renamed) == [""]
