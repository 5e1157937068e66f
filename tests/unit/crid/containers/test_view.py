"""How a container is shown."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from crid.containers.model import Image, Record
from crid.containers.view import State, view_of
from sampan.resource.container import Container, ContainerState, Status
from sampan.resource.container_spec import ContainerSpec
from tests.fakes.pods import exited
from tests.unit.crid.world import container

RECORD = Record("k8s_main", "s" * 64, 7, container(), Image("sha256:1", "busybox:latest", "sha256:1"), "", "c" * 64)
MADE = Container("c" * 64, ContainerSpec(), datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("state", "shown", "reason", "code"),
    [
        (ContainerState(), State.CREATED, "", 0),
        (ContainerState(Status.RUNNING), State.RUNNING, "", 0),
        (ContainerState(Status.PAUSED), State.RUNNING, "", 0),
        (exited(), State.EXITED, "Completed", 0),
        (exited(3), State.EXITED, "Error", 3),
        (exited(137, oom_killed=True), State.EXITED, "OOMKilled", 137),
        (exited(0, oom_killed=True), State.EXITED, "OOMKilled", 0),
        (ContainerState(error="no such file", exit_code=127), State.EXITED, "StartError", 127),
        (ContainerState(Status.DEAD), State.UNKNOWN, "Unknown", 0),
    ],
)
def test_a_state_has_its_reason_and_exit_code(state: ContainerState, shown: State, reason: str, code: int) -> None:
    view = view_of(RECORD, replace(MADE, state=state))
    assert (view.state, view.reason, view.exit_code) == (shown, reason, code)
    assert bool(view.finished_ns) == (shown in (State.EXITED, State.UNKNOWN))


def test_times_are_nanoseconds_and_the_signal_is_the_one_that_stops_it() -> None:
    view = view_of(RECORD, replace(MADE, state=exited()))
    assert view.started_ns == view.finished_ns == 1_767_225_600_000_000_000
    assert view.stop_signal == "SIGTERM"
    assert view_of(RECORD, replace(MADE, spec=ContainerSpec(stop_signal="SIGUSR1"))).stop_signal == "SIGUSR1"
