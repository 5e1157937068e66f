"""Modes of namespaces: a container's own, the host's, another container's."""

from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Namespaces

BRIDGE: Final = "bridge"
CONTAINER: Final = "container:"
_FILE: Final = "ns:"


def namespace_path(mode: str) -> str:
    """Return the file of the namespace that a mode joins; empty: it joins none by a file."""
    return mode.removeprefix(_FILE) if mode.startswith(_FILE) else ""


def network_mode(text: str) -> str:
    """Return a network mode under its one name: the default has three."""
    return BRIDGE if text in ("", "default") else text


def check_namespaces(modes: Namespaces, owner: str = "") -> None:
    """Raise InvalidArgumentError, in Docker's words, for a mode that is not known; networks are runtimed's.

    With an ``owner`` files of namespaces may be named.
    """
    if modes.network in (CONTAINER, CONTAINER.removesuffix(":")):  # a network's name it cannot be, with Docker either
        raise InvalidArgumentError("invalid network mode: invalid container format container:<name|id>")
    for kind, mode, known, joins in (
        ("network", modes.network, (), True),
        ("PID", modes.pid, ("", "host"), True),
        ("IPC", modes.ipc, ("", "none", "private", "shareable", "host"), True),
        ("UTS", modes.uts, ("", "host"), False),
        ("cgroup namespace", modes.cgroup, ("", "private", "host"), False),
        ("userns", modes.user, ("", "host"), False),
    ):
        if mode.startswith(_FILE):
            if not owner or kind == "cgroup namespace" or not namespace_path(mode).startswith("/"):
                raise InvalidArgumentError(f"invalid {kind} mode: {mode}")
        elif known and mode not in known and not (joins and mode.startswith(CONTAINER) and mode != CONTAINER):
            raise InvalidArgumentError(f"invalid {kind} mode: {mode}")
