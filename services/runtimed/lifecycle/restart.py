"""Whether and when a restart policy starts a container again."""

from typing import Final

from runtimed.containers.memory_store import Entry
from sampan.errors import NoSpaceError
from sampan.resource.container_spec import RestartPolicy
from sampan.sys.files import is_full

_FIRST_S: Final = 0.1
_LONGEST_S: Final = 60.0
# A run that lasted this long was a success: the next failure begins again at the shortest delay.
_HEALTHY_S: Final = 10.0


def restarts(policy: RestartPolicy, exit_code: int, restart_count: int, *, manually_stopped: bool) -> bool:
    """Whether the policy starts a container that has ended: behind its exit, and when the engine starts.

    ``manually_stopped``: it was sent a signal by a client in its last run. That keeps ``unless-stopped`` alone from
    starting it, as with Docker; behind an exit that was asked for no policy is consulted at all.
    """
    match policy.name:
        case "always":
            return True
        case "unless-stopped":
            return not manually_stopped
        case "on-failure":
            return exit_code != 0 and (not policy.maximum_retries or restart_count < policy.maximum_retries)
    return False


def next_backoff_s(last_s: float, ran_s: float) -> float:
    """Return how long to wait before the next start, given the last such wait (0: none) and how long it ran."""
    if ran_s >= _HEALTHY_S or not last_s:
        return _FIRST_S
    return min(last_s * 2, _LONGEST_S)


def starts_with_engine(entry: Entry) -> bool:
    """Whether a container that has ended is started when the engine is."""
    container = entry.container
    return restarts(
        container.spec.restart_policy,
        container.state.exit_code,
        container.restart_count,
        manually_stopped=entry.stopped_by_request,
    )


def means_full(error: BaseException | None) -> bool:
    """Say whether a start failed for want of space on a disk."""
    while error is not None:
        if isinstance(error, NoSpaceError) or is_full(error):
            return True
        error = error.__cause__
    return False
