"""What happened, in Docker's event vocabulary."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    type: str  # "container", "image", "network", "volume", "daemon"
    action: str  # "create", "exec_start: sh", …
    actor_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    time_ns: int = 0  # since 1970; 0 is now
    owner: str = ""  # of the container that it happened to
