"""Restart policies: ``always``, ``on-failure:3``."""

import re
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import RestartPolicy

_NAMES: Final = ("", "no", "always", "on-failure", "unless-stopped")
_COUNT: Final = re.compile(r"-?[0-9]{1,9}")


def parse_restart(text: str) -> RestartPolicy:
    """Parse ``on-failure:3``, ``always``.

    Raises:
        InvalidArgumentError: in Docker's words, another form; ``check_restart`` looks at the parts.
    """
    name, colon, count = text.partition(":")
    if colon and not name:
        raise InvalidArgumentError("invalid restart policy format: no policy provided before colon")
    if count and not _COUNT.fullmatch(count):
        raise InvalidArgumentError("invalid restart policy format: maximum retry count must be an integer")
    return RestartPolicy(name=name or "no", maximum_retries=int(count or 0))


def check_restart(policy: RestartPolicy, *, auto_remove: bool) -> None:
    """Raise InvalidArgumentError, in Docker's words, for a policy that is not known or that cannot be kept."""
    if policy.name not in _NAMES:
        raise InvalidArgumentError(
            f"invalid restart policy: unknown policy '{policy.name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retries < 0:
        raise InvalidArgumentError("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retries and policy.name != "on-failure":
        raise InvalidArgumentError("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if auto_remove and policy.name not in ("", "no"):
        raise InvalidArgumentError("can't create 'AutoRemove' container with restart policy")
