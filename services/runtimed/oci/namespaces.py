"""Namespaces and sysctls of a bundle."""

import fcntl
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from runtimed.host.facts import CgroupLayout
from runtimed.protocol import Joins
from sampan.docker.options.namespaces import namespace_path
from sampan.errors import InvalidArgumentError, StartError
from sampan.resource.container import Container
from sampan.resource.container_spec import ContainerSpec, IdMapping

_IPC_SYSCTLS: Final = re.compile(
    r"fs\.mqueue\..+|kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced)"
)

# So that nobody needs a capability for port 80 or for ping; the addresses are the container's own.
_PING: Final = "net.ipv4.ping_group_range"
_NETWORK_SYSCTLS: Final = {"net.ipv4.ip_unprivileged_port_start": "0", _PING: "0 2147483647"}

_CONTAINER: Final = "container:"


def host_cgroup_namespace(spec: ContainerSpec, layout: CgroupLayout) -> bool:
    """Whether the container sees the host's cgroup paths; by default it does where version 1 is in use."""
    mode = spec.namespaces.cgroup
    if not mode:
        return spec.security.privileged or layout is not CgroupLayout.UNIFIED
    return mode == "host"


def oci_namespaces(container: Container, joins: Joins, layout: CgroupLayout) -> list[dict[str, object]]:
    """Return the namespaces to make or to join; those of the host are left out.

    Raises:
        StartError: the container to join was not looked up: it does not run.
    """
    spec = container.spec
    modes = spec.namespaces
    made: list[dict[str, object]] = [{"type": "mount"}]
    if modes.network != "host":
        path = joins.network if modes.network.startswith(_CONTAINER) else container.network.sandbox_path
        made.append(_one("network", modes.network, path))
    if modes.pid != "host":
        made.append(_one("pid", modes.pid, joins.pid))
    if modes.ipc != "host":
        made.append(_one("ipc", modes.ipc, joins.ipc))
    if modes.uts != "host":
        made.append(_one("uts", modes.uts, ""))
    if namespace_path(modes.user) or modes.uid_mappings:
        made.append(_one("user", modes.user, ""))
    if not host_cgroup_namespace(spec, layout):
        made.append({"type": "cgroup"})
    return made


def _one(kind: str, mode: str, path: str) -> dict[str, object]:
    if given := namespace_path(mode):
        check_namespace(kind, given)
        return {"type": kind, "path": given}
    if mode.startswith(_CONTAINER) and not path:
        raise StartError(f"cannot join {kind} namespace of a non running container: {mode.removeprefix(_CONTAINER)}")
    return {"type": kind, "path": path} if path else {"type": kind}


def oci_mappings(mappings: Sequence[IdMapping]) -> list[dict[str, object]]:
    """Return ranges of IDs as the runtime has them."""
    return [{"containerID": one.container_id, "hostID": one.host_id, "size": one.size} for one in mappings]


# CLONE_NEW*, by which the kernel says what a namespace is.
_KINDS: Final = {"network": 0x40000000, "pid": 0x20000000, "ipc": 0x08000000, "uts": 0x04000000, "user": 0x10000000}
_NS_GET_NSTYPE: Final = 0xB703


def check_namespace(kind: str, path: str) -> None:
    """Raise StartError if the file is no namespace of that kind."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise StartError(f"cannot join {kind} namespace {path}: {error.strerror}") from error
    try:
        found = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        found = 0
    finally:
        os.close(fd)
    if found != _KINDS[kind]:
        raise StartError(f"cannot join {kind} namespace {path}: it is none")


def oci_sysctls(spec: ContainerSpec) -> dict[str, str]:
    """Return the sysctls to set, the defaults for an own network among them."""
    network = spec.namespaces.network
    own_network = network != "host" and not network.startswith(_CONTAINER) and not namespace_path(network)
    sysctls = {name: value for name, value in _NETWORK_SYSCTLS.items() if own_network and _exists(name)}
    if _PING in sysctls and spec.namespaces.gid_mappings:  # the kernel takes groups that there are
        sysctls[_PING] = f"0 {_last_of(spec.namespaces.gid_mappings)}"
    if spec.domainname and not spec.namespaces.uts:
        sysctls["kernel.domainname"] = spec.domainname
    return sysctls | dict(spec.sysctls)


def _last_of(mappings: Sequence[IdMapping]) -> int:
    """Return the last ID of those that follow on one another from 0 on."""
    end = 0
    for one in sorted(mappings, key=lambda each: each.container_id):
        if one.container_id == end:
            end += one.size
    return max(end - 1, 0)


def _exists(name: str) -> bool:
    return Path("/proc/sys", *name.split(".")).exists()


def check_sysctls(sysctls: Mapping[str, str], spec: ContainerSpec) -> None:
    """Raise InvalidArgumentError for a sysctl that is not the container's own."""
    for name in sysctls:
        key = name.replace("/", ".")
        if _IPC_SYSCTLS.fullmatch(key):
            if spec.namespaces.ipc == "host":
                raise InvalidArgumentError(f'sysctl "{name}" is not allowed in the hosts ipc namespace')
        elif key.startswith("net."):
            if spec.namespaces.network == "host":
                raise InvalidArgumentError(f'sysctl "{name}" not allowed in host network namespace')
        elif key == "kernel.domainname":
            if spec.namespaces.uts == "host":
                raise InvalidArgumentError(f'sysctl "{name}" is not allowed in the hosts uts namespace')
        else:
            raise InvalidArgumentError(f'sysctl "{name}" is not in a separate kernel namespace')
