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
    terminal.expect(" # ", 60)  # what is typed before is for the monitor, until it has handed the terminal on
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
        terminal.wait(60)


def test_a_step_that_failed_is_entered_with_what_it_has_written(buildx: GoClient, image: str, context: Path) -> None:
    step = "RUN --mount=type=tmpfs,target=/memory export A=1 && echo half > /made && echo more > /srv/made && exit 7"
    (context / "Dockerfile").write_text(f"FROM {image}\nENV OF_THE_STEP=yes\nWORKDIR /srv\n{step}\n")
    command = [str(buildx.program), "debug", "--invoke", "/bin/sh", "--on", "error", "build", "--progress", "plain"]
    with at_terminal([*command, str(context)], environment(buildx)) as terminal:
        enter(terminal)
        assert "exit code: 7" in terminal.seen
        terminal.type(
            "cat /made; cat /srv/made; echo $OF_THE_STEP; echo $TERM; df -t tmpfs /memory | tail -1 | cut -c1-5\n"
        )
        terminal.expect("\ntmpfs")
        lines = [line.strip() for line in terminal.seen.splitlines() if line.strip()]
        assert lines[lines.index("half") :][:5] == ["half", "more", "yes", "xterm", "tmpfs"]
        terminal.type("exit\n")
        terminal.expect("(buildx)")
        terminal.type("exit\n")
        terminal.wait(60)
