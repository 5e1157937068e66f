"""``docker events``: which, in which order, with what."""

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.compat.conftest import Spawn
from tests.support.docker_client import DockerClient
from tests.support.tools import eventually


def events(docker: DockerClient, since: float, *filters: str, last: str = "") -> list[dict[str, Any]]:
    """Return what has happened since then: until ``last``, a type and an action, was told, or until now."""
    flags = [flag for text in filters for flag in ("--filter", text)]
    command = ("events", "--since", f"{since:.6f}", "--format", "{{json .}}", *flags)
    if not last:
        return [json.loads(line) for line in docker(*command, "--until", f"{time.time():.6f}").lines]
    told: list[dict[str, Any]] = []
    with docker.start(*command) as client:
        assert client.stdout is not None
        while not told or f"{told[-1]['Type']} {told[-1]['Action'].strip()}" != last:
            line = client.stdout.readline()
            assert line, f"the client ended before {last!r} was told, after {told}"
            told.append(json.loads(line))
        client.kill()
    return told


def in_order(expected: list[str], actions: list[str]) -> bool:
    """Whether ``expected`` is what remains of ``actions`` when others are left out."""
    rest = iter(actions)
    return all(action in rest for action in expected)


def test_life_of_a_container_is_told_in_docker_s_order(
    docker: DockerClient, image: str, unique: Callable[[str], str]
) -> None:
    name, since = unique("told"), time.time()
    docker.fails("run", "--rm", "--name", name, image, "sh", "-c", "exit 3")
    told = events(docker, since, f"container={name}", last="container destroy")
    actions = [event["Action"] for event in told if event["Type"] == "container"]
    assert actions == ["create", "attach", "start", "die", "destroy"]
    die = next(event for event in told if event["Action"] == "die")
    assert die["Actor"]["Attributes"]["exitCode"] == "3"
    assert die["Actor"]["Attributes"]["name"] == name
    assert die["Actor"]["Attributes"]["image"] == image
    assert die["timeNano"] // 1_000_000_000 == die["time"]
    assert all(event["scope"] == "local" for event in told)


def test_network_is_joined_before_the_start_and_left_after_the_death(
    docker: DockerClient, image: str, unique: Callable[[str], str]
) -> None:
    name, since = unique("net"), time.time()
    docker("run", "--rm", "--name", name, image, "true")
    identity = events(docker, since, f"container={name}", last="container destroy")[0]["Actor"]["ID"]
    told = [
        f"{event['Type']} {event['Action']}"
        for event in events(docker, since)
        if identity in (event["Actor"]["ID"], event["Actor"]["Attributes"].get("container"))
    ]
    expected = ["container create", "network connect", "container start", "container die", "network disconnect"]
    assert in_order(expected, told), told


def test_stop_and_kill_are_told(docker: DockerClient, sleeper: str) -> None:
    since = time.time()
    docker("stop", sleeper)
    told = events(docker, since, f"container={sleeper}", last="container stop")
    assert in_order(["kill", "die", "stop"], [event["Action"] for event in told])


def test_filters_select(docker: DockerClient, image: str, unique: Callable[[str], str]) -> None:
    name, since = unique("picked"), time.time()
    docker("run", "--rm", "--label", f"mark={name}", "--name", name, image, "true")
    events(docker, since, f"container={name}", last="container destroy")
    assert [e["Action"] for e in events(docker, since, "event=start", f"container={name}")] == ["start"]
    assert {e["Type"] for e in events(docker, since, "type=network")} <= {"network"}
    assert "create" in [e["Action"] for e in events(docker, since, f"label=mark={name}")]
    assert name in [e["Actor"]["Attributes"]["name"] for e in events(docker, since, f"image={image}", "type=container")]


def test_images_are_told_too(docker: DockerClient, image: str, unique: Callable[[str], str]) -> None:
    since, tag = time.time(), f"{unique('tagged')}:1"
    docker("tag", image, tag)
    docker("rmi", tag)
    told = events(docker, since, "type=image", last="image untag")
    assert in_order(["tag", "untag"], [event["Action"] for event in told])


def test_what_is_read_of_a_container_is_told(docker: DockerClient, sleeper: str) -> None:
    since = time.time()
    docker("top", sleeper)
    docker("cp", "/etc/hostname", f"{sleeper}:/told")
    docker("cp", f"{sleeper}:/told", "-")
    told = events(docker, since, f"container={sleeper}", "type=container", last="container archive-path")
    assert [event["Action"] for event in told] == ["top", "extract-to-dir", "archive-path"]


def test_images_that_are_made_and_moved_are_told_by_their_ids(
    docker: DockerClient, image: str, sleeper: str, unique: Callable[[str], str], tmp_path: Path
) -> None:
    since, tag, archive = time.time(), f"{unique('made')}:1", tmp_path / "archive.tar"
    made = docker("commit", "--message", "why", sleeper, tag).line
    docker("save", "--output", str(archive), tag)
    docker("rmi", tag)
    docker("load", "--input", str(archive))
    docker("rmi", tag)
    docker("export", "--output", str(archive), sleeper)
    imported = docker("import", str(archive), tag).line
    told = events(docker, since, last="image import")
    docker("rmi", tag)
    images = [
        (event["Action"], event["Actor"]["ID"], event["Actor"]["Attributes"]["name"])
        for event in told
        if event["Type"] == "image" and event["Action"] not in ("create", "untag", "delete")
    ]
    assert images == [
        ("tag", made, tag),
        ("save", made, made),
        ("load", made, made),
        ("tag", imported, tag),
        ("import", imported, imported),
    ]
    (commit,) = [event["Actor"]["Attributes"] for event in told if event["Action"] == "commit"]
    assert {"comment": "why", "imageID": made, "imageRef": tag}.items() <= commit.items()


def test_events_come_as_they_happen(docker: DockerClient, image: str, unique: Callable[[str], str]) -> None:
    name = unique("live")
    flags = ("--filter", f"container={name}", "--filter", "event=start", "--format", "{{.Action}}")
    client = docker.start("events", "--since", f"{time.time():.3f}", *flags)
    docker("run", "--rm", "--name", name, image, "true")
    assert client.stdout is not None
    assert client.stdout.readline() == b"start\n"
    client.terminate()
    client.wait(60)


def test_exec_is_told_with_its_command(docker: DockerClient, sleeper: str) -> None:
    since = time.time()
    docker("exec", sleeper, "true")
    told = events(docker, since, f"container={sleeper}", last="container exec_die")
    actions = [event["Action"].strip() for event in told]
    assert in_order(["exec_create: true", "exec_start: true", "exec_die"], actions), actions


def test_probes_of_a_health_check_are_told_as_execs(docker: DockerClient, image: str, spawn: Spawn) -> None:
    since = time.time()
    name = spawn("--health-cmd", "exit 3", "--health-interval", "100ms", image, "sleep", "300")
    told = events(docker, since, f"container={name}", last="container exec_die")
    (created, began, ended) = [one for one in told if one["Action"].startswith("exec_")][:3]
    command = "/bin/sh -c exit 3"
    assert [created["Action"], began["Action"], ended["Action"]] == [
        f"exec_create: {command}",
        f"exec_start: {command}",
        "exec_die",
    ]
    assert ended["Actor"]["Attributes"]["exitCode"] == "3"
    assert len({one["Actor"]["Attributes"]["execID"] for one in (created, began, ended)}) == 1


def test_an_exec_that_cannot_be_started_is_told_to_begin_and_not_to_die(docker: DockerClient, sleeper: str) -> None:
    since = time.time()
    docker.fails("exec", sleeper, "no-such-program")
    docker("exec", sleeper, "true")
    told = events(docker, since, f"container={sleeper}", last="container exec_die")
    actions = [event["Action"].strip() for event in told]
    expected = ["exec_create: no-such-program", "exec_start: no-such-program", "exec_create: true", "exec_start: true"]
    assert actions == [*expected, "exec_die"], actions


def test_volumes_are_mounted_and_unmounted_with_each_run(docker: DockerClient, image: str, spawn: Spawn) -> None:
    volume = f"{uuid.uuid4().hex[:12]}-events"
    since = time.time()
    name = spawn("--volume", f"{volume}:/data:ro", image, "true")
    docker("wait", name)
    docker("start", "--attach", name)
    docker("rm", name)
    docker("volume", "rm", volume)
    found = events(docker, since, "type=volume", f"volume={volume}", last="volume destroy")
    assert [one["Action"] for one in found] == ["create", *(("mount", "unmount") * 2), "destroy"]
    mount, unmount = found[1]["Actor"]["Attributes"], found[2]["Actor"]["Attributes"]
    assert {"driver": "local", "destination": "/data", "read/write": "false"}.items() <= mount.items()
    assert set(unmount) == {"driver", "container"}


def test_what_a_volumes_options_mount_goes_with_its_last_container(
    docker: DockerClient, image: str, spawn: Spawn
) -> None:
    volume = f"{uuid.uuid4().hex[:12]}-tmpfs"
    docker("volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", volume)
    first = spawn("--volume", f"{volume}:/data", image, "sh", "-c", "echo kept > /data/x; sleep 1000")
    second = spawn("--volume", f"{volume}:/data", image, "sleep", "1000")
    eventually(lambda: docker.fails("exec", second, "cat", "/data/x").line == "kept", "the first one has written")
    docker("stop", "--time", "0", first)
    assert docker("exec", second, "cat", "/data/x").line == "kept"
    docker("stop", "--time", "0", second)
    docker("start", second)
    assert docker("exec", second, "ls", "/data").stdout == ""
    docker("rm", "--force", first, second)
    docker("volume", "rm", volume)
