"""Whether and when a restart policy starts a container again."""

from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import RestartPolicy

_FIRST_S: Final = 0.1
_LONGEST_S: Final = 60.0
# A run that lasted this long was a success: the next failure begins again at the shortest delay.
_HEALTHY_S: Final = 10.0

_NAMES: Final = ("", "no", "always", "unless-stopped", "on-failure")


def check_policy(policy: RestartPolicy, *, auto_remove: bool) -> None:
    """Validate a policy.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    if policy.name not in _NAMES:
        raise InvalidArgumentError(
            f"invalid restart policy: unknown policy '{policy.name}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'"
        )
    if policy.maximum_retries < 0:
        raise InvalidArgumentError("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retries and policy.name != "on-failure":
        raise InvalidArgumentError("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidArgumentError("can't create 'AutoRemove' container with restart policy")


def restarts_after_exit(policy: RestartPolicy, exit_code: int, restart_count: int, *, stop_requested: bool) -> bool:
    """Whether a container that just ended is started again."""
    if stop_requested:
        return False
    if policy.name == "on-failure":
        return exit_code != 0 and (not policy.maximum_retries or restart_count < policy.maximum_retries)
    return policy.name in ("always", "unless-stopped")


def starts_with_engine(policy: RestartPolicy, *, stopped_by_request: bool) -> bool:
    """Whether a container that does not run is started when the engine is."""
    return policy.name == "always" or (policy.name == "unless-stopped" and not stopped_by_request)


def next_backoff_s(last_s: float, ran_s: float) -> float:
    """Return how long to wait before the next start, given the last such wait (0: none) and how long it ran."""
    if ran_s >= _HEALTHY_S or not last_s:
        return _FIRST_S
    return min(last_s * 2, _LONGEST_S)
