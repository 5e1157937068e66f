"""What cannot be made is refused at create, in words that name it, without a pull and without leaving anything."""

from collections.abc import Callable

import pytest

from tests.compat.conftest import TARGET
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--network", "container:no-such"), "No such container: no-such"),
        (("--pid", "container:no-such"), "No such container: no-such"),
        (("--ipc", "container:no-such"), "No such container: no-such"),
        (("--volumes-from", "no-such"), "No such container: no-such"),
        (("--link", "no-such"), "could not get container for no-such: No such container: no-such"),
        (("--link", "a:b:c"), "bad format for links: a:b:c"),
        (("--isolation", "hyperv"), "linux only supports 'default'"),
        (("--volume", "/etc/hostname:/etc"), "Are you trying to mount a directory onto a file (or vice-versa)?"),
    ],
)
@pytest.mark.usefixtures("nothing_left")
def test_unusable_option_is_refused_without_a_pull(
    docker: DockerClient, image: str, flags: tuple[str, ...], said: str
) -> None:
    failed = docker.fails("run", "--rm", *flags, image, "true")
    assert failed.code == 125
    assert said in failed.stderr
    assert "Unable to find image" not in failed.stderr


def test_exec_that_cannot_begin_has_docker_s_code(docker: DockerClient, sleeper: str) -> None:
    user = docker.fails("exec", "--user", "nobody-such", sleeper, "true")
    assert "unable to find user nobody-such: no matching entries in passwd file" in user.stdout + user.stderr
    assert user.code == (126 if TARGET else 1)  # Docker looks at create since 27
    if not TARGET:  # 127 since Docker 23
        assert docker.fails("exec", "--workdir", "/no-such", sleeper, "pwd").code == 127


def test_one_label_is_a_column_of_ps(engine: Engine, image: str, unique: Callable[[str], str]) -> None:
    name = unique("labelled")
    engine.sampan("run", "--detach", "--name", name, "--label", "com.example.my-tier=web", image, "sleep", "1000")
    template = 'table {{.Names}}\t{{.Label "com.example.my-tier"}}'
    listed = engine.sampan("ps", "--filter", f"name={name}", "--format", template).lines
    engine.sampan("rm", "--force", name)
    assert [line.split() for line in listed] == [["NAMES", "my", "tier"], [name, "web"]]
