"""What becomes of containers when the engine is told to stop: they run on, or end by their own signals."""

import subprocess
from pathlib import Path

import pytest

from runtimed.lifecycle import shutdown
from runtimed.lifecycle.shutdown import Shutdown, machine_goes_down
from sampan.resource.container import Status
from sampan.resource.container_spec import RestartPolicy
from tests.fakes.runtimed_engine import World


@pytest.mark.parametrize(
    ("live_restore", "goes_down", "ends", "pods_end"),
    [(True, False, False, False), (True, True, True, True), (False, False, True, False), (False, True, True, True)],
)
async def test_what_ends_with_the_engine_and_what_with_the_machine(
    world: World, live_restore: bool, goes_down: bool, ends: bool, pods_end: bool
) -> None:
    async with world.engine() as engine:
        plain = await engine.make(RestartPolicy("always"), name="plain")
        pods = await engine.make(name="pods", owner="cri")
        for entry in (plain, pods):
            await engine.lifecycle.start(entry)
        await Shutdown(
            engine.memory,
            engine.lifecycle,
            live_restore=live_restore,
            timeout_s=1,
            machine_goes_down=lambda: goes_down,
        ).run()
        await engine.settle()
        assert (plain.status is Status.EXITED) == ends
        assert (pods.status is Status.EXITED) == pods_end
        assert not plain.stopped_by_request
    async with world.engine() as engine:
        found = engine.memory.find(plain.id)
        await engine.until(lambda: found.status is Status.RUNNING)


@pytest.mark.parametrize(
    ("said", "goes_down"), [("stopping", True), ("running", False), ("degraded", False), ("", False)]
)
def test_systemd_is_asked_whether_the_machine_goes_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, goes_down: bool
) -> None:
    asked = tmp_path / "systemctl"
    asked.write_text(f"#!/bin/sh\n[ \"$1\" = is-system-running ] && echo '{said}'\nexit 1\n")
    asked.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(shutdown, "_SYSTEMD", tmp_path)
    assert machine_goes_down() == goes_down
    monkeypatch.setattr(shutdown, "_SYSTEMD", tmp_path / "none")
    assert not machine_goes_down()


def test_init_that_does_not_answer_leaves_containers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("systemctl", 5)

    monkeypatch.setattr(shutdown, "_SYSTEMD", tmp_path)
    monkeypatch.setattr(subprocess, "run", hangs)
    assert not machine_goes_down()
    monkeypatch.undo()
    monkeypatch.setattr(shutdown, "_SYSTEMD", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not machine_goes_down()
