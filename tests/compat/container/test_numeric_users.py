"""A number is always an ID, though an image gives a user or a group that number for its name, and uid 0 with it."""

from pathlib import Path

import pytest

from tests.compat.conftest import TARGET, Spawn
from tests.support.docker_client import DockerClient
from tests.support.images import Entry, Image, layer, push, tar
from tests.support.registry import Registry
from tests.support.trees import busybox_tar

_RANGE = "uids and gids must be in range 0-2147483647"
_PAST_64_BITS = "99999999999999999999"
_USERS = "".join(f"{name}:x:0:0::/root:/bin/sh\n" for name in ("root", "1000", "0777", "99999999999", _PAST_64_BITS))
_GROUPS = "".join(f"{name}:x:0:\n" for name in ("root", "1000", "99999999999", _PAST_64_BITS, "-1"))


@pytest.fixture(scope="module")
def misnamed(docker: DockerClient, registry: Registry) -> str:
    """An image whose users and groups have numbers for names."""
    users = f"{_USERS}web:x:1001:1001::/:/bin/sh\n".encode()
    groups = f"{_GROUPS}web:x:1001:\n".encode()
    files = layer(tar(Entry("etc/passwd", users), Entry("etc/group", groups)))
    push(registry, "misnamed", "1", Image([layer(busybox_tar()), files], {"Cmd": ["id"], "User": "1000"}))
    reference = f"{registry.address}/misnamed:1"
    docker("pull", "--quiet", reference)
    return reference


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("", "1000 0"),  # of the image's USER
        ("1000", "1000 0"),
        ("0777", "777 0"),
        ("web:1000", "1001 1000"),
        ("1000:1000", "1000 1000"),
        ("0", "0 0"),
    ],
)
def test_a_number_is_an_id_in_run_and_exec(
    docker: DockerClient, misnamed: str, spawn: Spawn, user: str, ids: str
) -> None:
    flags = ("--user", user) if user else ()
    assert docker("run", "--rm", *flags, misnamed, "sh", "-c", "echo $(id -u) $(id -g)").line == ids
    name = spawn(misnamed, "sleep", "1000")
    assert docker("exec", *flags, name, "sh", "-c", "echo $(id -u) $(id -g)").line == ids


@pytest.mark.parametrize("number", ["-1", "2147483648", "99999999999", _PAST_64_BITS])
def test_a_number_out_of_range_is_refused_in_run_and_exec(
    docker: DockerClient, misnamed: str, spawn: Spawn, number: str
) -> None:
    if TARGET and number == _PAST_64_BITS:
        pytest.skip("a number past 64 bits is a name to dockerd")
    name = spawn(misnamed, "sleep", "1000")
    for user in (number, f"web:{number}"):
        failed = docker.fails("run", "--rm", f"--user={user}", misnamed)
        assert (failed.code, _RANGE in failed.stderr) == (125, True), failed
        failed = docker.fails("exec", f"--user={user}", name, "id")
        code = 126 if TARGET else 1  # Docker looks at create since 27
        assert (failed.code, _RANGE in failed.stdout + failed.stderr) == (code, True), failed


@pytest.mark.skipif(bool(TARGET), reason="dockerd takes the number of a group to add for its name")
def test_a_number_of_a_group_to_add_is_an_id(docker: DockerClient, misnamed: str) -> None:
    # runc before 1.3 would look 1000 up once more and give the group of root.
    failed = docker.fails("run", "--rm", "--user", "web", "--group-add", "1000", misnamed)
    assert "group 1000 cannot be added: the image has another group that is named 1000" in failed.stderr
    shown = docker(
        "run", "--rm", "--user", "web:1000", "--group-add", "7", misnamed, "grep", "Groups", "/proc/1/status"
    )
    assert shown.line.split() == ["Groups:", "7"]
    for number in ("-1", "99999999999", _PAST_64_BITS):
        failed = docker.fails("run", "--rm", f"--group-add={number}", misnamed)
        assert (failed.code, _RANGE in failed.stderr) == (125, True), failed


def test_a_number_is_an_id_in_the_steps_of_a_build(docker: DockerClient, misnamed: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "Dockerfile").write_text(
        f"FROM {misnamed}\n"
        "RUN test $(id -u) = 1000\n"
        "USER 0\n"
        "COPY --chown=1000:1000 file /copied\n"
        "RUN test $(stat -c %u:%g /copied) = 1000:1000\n"
        "USER 1000:1000\n"
        "RUN test $(id -u):$(id -g) = 1000:1000\n"
    )
    docker("build", "--quiet", str(tmp_path))
