"""``buildx debug``: its monitor has containers beside a build."""

import os
from pathlib import Path

import pytest

from tests.support.go_clients import GoClient
from tests.support.terminal import Terminal, at_terminal

pytestmark = pytest.mark.root


def environment(buildx: GoClient) -> dict[str, str]:
    own = {"HOME": str(buildx.home), "DOCKER_CONFIG": str(buildx.home), "BUILDX_CONFIG": str(buildx.home / "buildx")}
    return {**os.environ, **own, "BUILDX_EXPERIMENTAL": "1"}


def enter(terminal: Terminal) -> None:
    """Wait for the monitor's process, and have its lines told apart from what is typed."""
    terminal.expect("Launching interactive container", 60)
    terminal.type("PS1=; echo re''ady\n")
    terminal.expect("\nready")


def test_a_process_is_entered_in_the_result(buildx: GoClient, image: str, context: Path) -> None:
    (context / "Dockerfile").write_text(f"FROM {image}\nRUN echo made > /made\nENV OF_THE_IMAGE=yes\n")
    command = [str(buildx.program), "debug", "--invoke", "/bin/sh", "--on", "always", "build", "--progress", "plain"]
    with at_terminal([*command, str(context)], environment(buildx)) as terminal:
        enter(terminal)
        terminal.type("cat /made; echo $OF_THE_IMAGE; tty | cut -c1-9\n")
        terminal.expect("/dev/pts/")
        assert "made" in terminal.seen
        assert "yes" in terminal.seen
        terminal.type("exit\n")
        terminal.expect("(buildx)")
        terminal.type("exit\n")
        terminal.wait(30)
