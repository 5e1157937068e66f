"""``sampan`` has every command and flag of the docker command, but for those that are named here with their reason."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import pytest

from sampan_cli.app.app import app
from tests.support.tools import need

_SWARM: Final = "swarm is out of scope"
_TRUST: Final = "content trust is out of scope"
_WINDOWS: Final = "of containers on Windows"
_BUILDER: Final = "of the builder before BuildKit, which sampan's is not"

# Command lines and flags, as regular expressions, and why they are not there.
MEANT: Final = (
    (r"(swarm|service|stack|node|config|secret|volume update)\b.*", _SWARM),
    (r"volume (create|ls) --(availability|cluster|group|limit-bytes|required-bytes|scope|secret|sharing|type)", _SWARM),
    (r"volume create --topology-(preferred|required)", _SWARM),
    (r"network create --ingress", _SWARM),
    (r"trust\b.*", _TRUST),
    (r".* --disable-content-trust", _TRUST),
    (r"plugin\b.*", "plugins that the engine would install are not supported yet"),
    (r".* --(isolation|cpu-count|cpu-percent|io-maxbandwidth|io-maxiops)", _WINDOWS),
    (r".*build --(compress|force-rm|rm|security-opt|squash)", _BUILDER),
    (r".*(create|run) --kernel-memory", "no kernel since 5.16 limits it"),
    (r".*(create|run) --use-api-socket", "experimental in Docker; --volume gives a container the socket"),
)
# Flags that others add, which may be there or not.
EITHER_WAY: Final = re.compile(r"(checkpoint\b.*|.* --(checkpoint|checkpoint-dir))")


def docker_help(path: tuple[str, ...], home: Path) -> tuple[set[str], set[str]]:
    """Return the commands and the flags that docker tells of; plugins of the command are not its own."""
    environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "COLUMNS": "200"}
    shown = subprocess.run(["docker", *path, "--help"], capture_output=True, text=True, env=environ, check=True).stdout
    commands, flags, section = set(), set(), ""
    for line in shown.splitlines():
        if heading := re.fullmatch(r"(\S.*):\s*", line):
            section = heading[1]
        elif "Commands" in section and (found := re.match(r"  ([a-z][\w-]*)\s", line)):
            commands.add(found[1])
        elif "Options" in section and (found := re.match(r"\s+(?:(-\w), )?(--[\w-]+)", line)):
            flags |= {flag for flag in found.groups() if flag}
    return commands, flags - {"--help"}


def missing(path: tuple[str, ...], command: click.Command, home: Path) -> Iterator[str]:
    """Yield what the docker command has and ``command`` has not."""
    context = click.Context(command, info_name=(path or ("sampan",))[-1])
    commands, flags = docker_help(path, home)
    options = [each for each in command.get_params(context) if isinstance(each, click.Option)]
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    yield from (" ".join((*path, flag)) for flag in sorted(flags - known))
    for name in sorted(commands):
        below = command.get_command(context, name) if isinstance(command, click.Group) else None
        if below is None:
            yield " ".join((*path, name))
        else:
            yield from missing((*path, name), below, home)


@pytest.mark.timeout(300)
def test_every_command_and_flag_of_docker_is_there(tmp_path: Path) -> None:
    need("docker")
    lacking = list(missing((), app, tmp_path))
    unmeant = [each for each in lacking if not any(re.fullmatch(meant, each) for meant, _ in MEANT)]
    assert [each for each in unmeant if not EITHER_WAY.fullmatch(each)] == []
    unused = [meant for meant, _ in MEANT if not any(re.fullmatch(meant, each) for each in lacking)]
    assert unused == [], "these are there now"
