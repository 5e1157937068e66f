"""What ``info`` says about the host: in Docker's form, so that its clients can show it.

Also which init program ``--init`` puts in front of a command, to reap zombies and pass signals on.
"""

import asyncio
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from runtimed.conmon.process import run
from runtimed.host.facts import HostFacts
from runtimed.host.runtimes import Runtimes
from sampan.errors import InvalidArgumentError, UnavailableError

# Statically linked ones alone: the container's own libraries are none of ours.
_NAMES: Final = ("docker-init", "tini-static", "catatonit")
_DIRECTORIES: Final = ("/usr/bin", "/usr/local/bin", "/usr/libexec/docker", "/usr/libexec/podman")


def check_labels(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the engine's labels, each once. InvalidArgumentError for one that is none, or has two values."""
    values: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name.strip() and equals and value):
            raise InvalidArgumentError(f"labels: bad attribute format: {text}: a label is name=value")
        if values.setdefault(name, value) != value:
            raise InvalidArgumentError(f"labels: conflict labels for {name}={values[name]} and {text}")
    return tuple(f"{name}={value}" for name, value in values.items())


def find_init(configured: str = "", directories: Sequence[str] = _DIRECTORIES) -> str | None:
    """Return the path of the init program: the configured one, or the first that is installed; None if there is none.

    A service's own ``$PATH`` may be anything, so the usual places are looked at as well.
    """
    if configured:
        return configured if os.access(configured, os.X_OK) and Path(configured).is_file() else None
    places = os.pathsep.join((os.environ.get("PATH", ""), *directories))
    return next((found for name in _NAMES if (found := shutil.which(name, path=places))), None)


_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Installed:
    """The programs that containers are run with."""

    runtimes: Runtimes
    conmon_version: str  # empty: there is none
    init_path: str | None


async def conmon_version(path: str, environ: Mapping[str, str]) -> str:
    """Return conmon's version, such as ``2.1.6``; empty if it cannot be run."""
    program = await asyncio.to_thread(shutil.which, path)
    if program is None:
        return ""
    try:
        done = await run((program, "--version"), {"PATH": environ.get("PATH", "")}, _TIMEOUT_S)
    except (OSError, UnavailableError):
        return ""
    first = done.stdout.decode(errors="replace").partition("\n")[0]
    return first.rpartition(" ")[2].strip()


@dataclass(frozen=True, slots=True)
class Choices:
    """What the configuration chose for containers that ask for nothing, and of the engine as a whole."""

    labels: tuple[str, ...] = ()  # "name=value"
    log_driver: str = ""  # empty: json-file
    seccomp_profile: str = ""  # empty: the built-in one
    no_new_privileges: bool = False
    live_restore: bool = True  # containers run on when the engine is stopped


def security_options(host: HostFacts, choices: Choices, *, remapped: bool = False) -> list[str]:
    """Return what protects the host, in Docker's form; ``remapped``: containers have user namespaces."""
    options = []
    if host.apparmor:
        options.append("name=apparmor")
    if host.seccomp:
        options.append(f"name=seccomp,profile={choices.seccomp_profile or 'builtin'}")
    if host.selinux:
        options.append("name=selinux")
    if remapped:
        options.append("name=userns")
    if host.layout.version == 2:
        options.append("name=cgroupns")
    if choices.no_new_privileges:
        options.append("name=no-new-privileges")
    return options


def warnings(host: HostFacts, installed: Installed, choices: Choices) -> list[str]:
    """Return what does not work here, Docker's sentences first."""
    limits = host.limits
    known = (
        (limits.memory, "WARNING: No memory limit support"),
        (limits.swap, "WARNING: No swap limit support"),
        (limits.cpu_quota, "WARNING: No cpu cfs quota support"),
        (limits.cpu_shares, "WARNING: No cpu shares support"),
        (limits.cpuset, "WARNING: No cpuset support"),
        (limits.pids, "WARNING: No pids limit support"),
        (limits.blkio_weight, "WARNING: No blkio weight support"),
        (not choices.seccomp_profile, "WARNING: daemon is not using the default seccomp profile"),
        (host.seccomp, "WARNING: seccomp is not available: containers run without a system call filter"),
        (bool(installed.conmon_version), "WARNING: conmon is not installed: no container can be started"),
        (bool(installed.runtimes.default), "WARNING: no OCI runtime works: no container can be started"),
        (
            installed.init_path is not None,
            "WARNING: no init program is installed: --init cannot be used",
        ),
    )
    found = [text for fine, text in known if not fine]
    found += [
        f"WARNING: runtime {one.name} {one.version} cannot be used: {one.reason}"
        for one in installed.runtimes.found
        if not one.usable
    ]
    if host.hard_limits:
        found.append("WARNING: no CAP_SYS_RESOURCE: ulimits cannot be raised above the engine's own")
    return found
