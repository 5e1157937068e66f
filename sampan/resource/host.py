"""What the host can do, and what was chosen because of it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OciRuntimeInfo:
    """An OCI runtime that was found."""

    name: str
    path: str
    version: str
    usable: bool
    reason: str = ""  # why not


@dataclass(frozen=True, slots=True)
class HostInfo:
    """The host as runtimed sees it, and how many containers are in which state."""

    default_runtime: str = ""
    runtimes: tuple[OciRuntimeInfo, ...] = ()
    cgroup_version: int = 0
    cgroup_layout: str = ""  # "unified", "hybrid", "legacy"
    security_options: tuple[str, ...] = ()  # Docker's form: "name=seccomp,profile=builtin"
    warnings: tuple[str, ...] = ()
    containers_running: int = 0
    containers_paused: int = 0
    containers_stopped: int = 0
    conmon_version: str = ""
    log_drivers: tuple[str, ...] = ()
    network_drivers: tuple[str, ...] = ()
    volume_drivers: tuple[str, ...] = ()
    events: int = 0  # published since runtimed started
