"""Volumes: directories that outlive containers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

LOCAL: Final = "local"


@dataclass(frozen=True, slots=True)
class VolumeRequest:
    """A volume to make."""

    name: str = ""  # empty: an anonymous one
    driver: str = ""  # empty: "local"
    options: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume's record, and what is looked up for those who ask: users, place, size and scope."""

    name: str
    created: datetime
    driver: str = LOCAL
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    anonymous: bool = False
    used_by: tuple[str, ...] = ()  # container IDs
    mountpoint: str = ""  # host path
    size_bytes: int | None = None  # on disk; None as well for what a plugin keeps
    scope: str = "local"  # or "global", of a plugin whose volumes are the same on many machines
    fault: str = ""  # why its record cannot be read: nothing but its name is known then
