"""A container as CRI shows it: its record here, and its state as runtimed has it."""

import enum
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from crid.containers.model import Record
from sampan.resource.container import Container, ContainerState, Status

_COMPLETED: Final = "Completed"
_ERROR: Final = "Error"
_OOM_KILLED: Final = "OOMKilled"
_START_ERROR: Final = "StartError"
_UNKNOWN: Final = "Unknown"


class State(enum.Enum):
    """CRI's words for a container's state."""

    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class View:
    """What is told of one container."""

    record: Record
    state: State
    started_ns: int = 0
    finished_ns: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""
    user: tuple[int, int, tuple[int, ...]] | None = None  # uid, gid, supplementary groups of its first process
    stop_signal: str = ""


_STATES: Final = {
    Status.CREATED: State.CREATED,
    Status.RUNNING: State.RUNNING,
    Status.PAUSED: State.RUNNING,  # somebody holds it still; it has not ended
    Status.RESTARTING: State.EXITED,
    Status.EXITED: State.EXITED,
    Status.REMOVING: State.UNKNOWN,
    Status.DEAD: State.UNKNOWN,
}


def view_of(record: Record, container: Container) -> View:
    """Return how a container is."""
    known = container.state
    state = State.EXITED if _failed_to_start(known) else _STATES[known.status]
    finished = state in (State.EXITED, State.UNKNOWN)
    user = known.user
    return View(
        record,
        state,
        started_ns=_ns(known.started_at),
        # kubelet takes an end without a time for one that it has not seen yet.
        finished_ns=(_ns(known.finished_at) or record.created_ns) if finished else 0,
        exit_code=known.exit_code if finished else 0,
        reason=_reason(state, known),
        message=known.error,
        user=(user.uid, user.gid, user.groups) if user is not None else None,
        stop_signal=container.spec.stop_signal or "SIGTERM",
    )


def _failed_to_start(state: ContainerState) -> bool:
    return state.status is Status.CREATED and bool(state.error)


def _reason(state: State, known: ContainerState) -> str:
    match state:
        case State.UNKNOWN:
            return _UNKNOWN
        case State.CREATED | State.RUNNING:
            return ""
    if _failed_to_start(known):
        return _START_ERROR
    if known.oom_killed:
        return _OOM_KILLED
    return _ERROR if known.exit_code else _COMPLETED


def _ns(moment: datetime | None) -> int:
    if moment is None:
        return 0
    since = int(moment.timestamp())
    return since * 1_000_000_000 + moment.microsecond * 1000
