"""Calls of an OCI runtime, with a script in its place."""

import os
from pathlib import Path

import pytest

from runtimed.conmon.conmon import RuntimeCommand
from runtimed.oci.runtime import OciRuntime
from sampan.errors import ConflictError

# Its calls are counted in a file; the first ``kills`` of them are killed by somebody.
SCRIPT = """#!/bin/sh
echo "$*" >> {calls}
[ "$(wc -l < {calls})" -gt {kills} ] || kill -9 $$
"""


def killed(directory: Path, kills: int) -> tuple[OciRuntime, Path]:
    """Return a runtime whose first calls are killed, and the file with what it was called for."""
    program, calls = directory / "runtime", directory / "calls"
    program.write_text(SCRIPT.format(calls=calls, kills=kills))
    program.chmod(0o755)
    return OciRuntime("script", RuntimeCommand(program, directory / "state"), os.environ), calls


@pytest.mark.parametrize("call", ["pause", "resume", "delete"])
async def test_a_call_that_was_killed_and_may_be_repeated_is_repeated(tmp_path: Path, call: str) -> None:
    runtime, calls = killed(tmp_path, 1)
    await getattr(runtime, call)("c1", tmp_path)
    lines = calls.read_text().splitlines()
    assert [line.split("json ")[1].split()[0] for line in lines] == [call, call]


async def test_changed_limits_are_set_although_the_runtime_was_killed(tmp_path: Path) -> None:
    runtime, calls = killed(tmp_path, 1)
    await runtime.update("c1", tmp_path, {"memory": {"limit": 1}})
    assert len(calls.read_text().splitlines()) == 2


async def test_a_call_that_is_killed_time_and_again_fails_and_says_how(tmp_path: Path) -> None:
    runtime, _ = killed(tmp_path, 9)
    with pytest.raises(ConflictError, match="script cannot pause the container: exit code -9"):
        await runtime.pause("c1", tmp_path)


BUSCTL = """#!/bin/sh
echo "$*" >> {calls}
echo "Unit is masked." >&2
exit {code}
"""


@pytest.mark.parametrize("code", [0, 1])
async def test_changed_limits_of_a_scope_are_told_to_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    (tmp_path / "busctl").write_text(BUSCTL.format(calls=tmp_path / "told", code=code))
    (tmp_path / "busctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    runtime, _ = killed(tmp_path, 0)
    change = runtime.update("c1", tmp_path, {"pids": {"limit": 5}}, "/system.slice/sampan-c1.scope")
    if code:
        with pytest.raises(
            ConflictError, match=r"systemd does not take the limits of /system.slice/.*: Unit is masked"
        ):
            await change
    else:
        await change
    assert (tmp_path / "told").read_text().endswith("SetUnitProperties sba(sv) sampan-c1.scope true 1 TasksMax t 5\n")
    (tmp_path / "told").unlink()
    await runtime.update("c1", tmp_path, {"pids": {"limit": 5}})
    await runtime.update("c1", tmp_path, {"cpu": {"shares": 5}}, "/system.slice/sampan-c1.scope")
    assert not (tmp_path / "told").exists()
