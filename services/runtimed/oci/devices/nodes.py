"""Devices in a bundle: nodes to make, and the rules of the device cgroup."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.docker.options.devices import ALL, parse_rule
from sampan.errors import StartError
from sampan.resource.container_spec import Device

_DENY_ALL: Final = {"allow": False, "access": "rwm"}
_ALLOW_ALL: Final = {"allow": True, "access": "rwm"}

# null, zero, full, random, urandom, tty, console; runtimes add ptmx, the terminals, and mknod alone for all others.
_DEFAULT: Final = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1))
_FUSE: Final = (10, 229)

# Those of the host's /dev that every container has of its own, or that are not devices.
_NOT_SHARED: Final = frozenset(("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"))


@dataclass(frozen=True, slots=True)
class DeviceNode:
    """A device of the host, and where it appears in the container."""

    path: str
    kind: str  # "c" or "b"
    major: int
    minor: int
    mode: int
    uid: int
    gid: int

    def oci(self) -> dict[str, object]:
        """Return the OCI ``devices`` entry."""
        return {
            "path": self.path,
            "type": self.kind,
            "major": self.major,
            "minor": self.minor,
            "fileMode": self.mode,
            "uid": self.uid,
            "gid": self.gid,
        }

    def rule(self, access: str) -> dict[str, object]:
        """Return the cgroup rule that allows it."""
        return {"allow": True, "type": self.kind, "major": self.major, "minor": self.minor, "access": access}


def oci_devices(
    devices: Sequence[Device], rules: Sequence[str], *, privileged: bool
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return the nodes to make and the cgroup rules.

    A privileged container has all devices of the host already, and besides those that are asked for by another name.

    Raises:
        StartError: a device is not there, or none; in Docker's words.
    """
    if privileged:
        shown = {node.path: node for node in _host_devices()}
        renamed = (device for device in devices if device.container_path not in ("", device.host_path))
        shown |= {node.path: node for device in renamed for node in _asked_for(device)}
        return [node.oci() for node in shown.values()], [dict(_ALLOW_ALL)]
    allowed: list[dict[str, object]] = [dict(_DENY_ALL)]
    allowed += [
        {"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"} for major, minor in _DEFAULT
    ]
    allowed.append({"allow": False, "type": "c", "major": _FUSE[0], "minor": _FUSE[1], "access": "rwm"})
    nodes: dict[str, DeviceNode] = {}
    for device in devices:
        for node in _asked_for(device):
            nodes[node.path] = node
            allowed.append(node.rule(device.permissions or ALL))
    allowed += [_oci_rule(rule) for rule in rules]
    return [node.oci() for node in nodes.values()], allowed


def _asked_for(device: Device) -> list[DeviceNode]:
    """Return the device itself, or all below a directory."""
    host = Path(device.host_path)
    shown = device.container_path or device.host_path
    try:
        found = host.resolve(strict=True)
        if not found.is_dir():
            return [node_of(found, shown)]
        nodes = [node_of(path, shown + str(path)[len(str(found)) :]) for path in _below(found)]
        if not nodes:
            raise ValueError(f"no device node is below {found}")
    except ValueError as error:
        raise StartError(
            f'error gathering device information while adding custom device "{device.host_path}": not a device node'
        ) from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartError(
            f'error gathering device information while adding custom device "{device.host_path}": {reason}'
        ) from error
    return nodes


def _host_devices() -> Iterator[DeviceNode]:
    for path in _below(Path("/dev")):
        try:
            yield node_of(path, str(path))
        except (OSError, ValueError):
            continue  # it vanished, as hotplugged devices do


def _below(directory: Path) -> Iterator[Path]:
    """Yield the device nodes below ``directory``, links and what every container has of its own left out."""
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in _NOT_SHARED:
                yield from _below(Path(entry.path))
        elif entry.name != "console" and not entry.is_symlink():
            mode = entry.stat(follow_symlinks=False).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                yield Path(entry.path)


def node_of(path: Path, shown: str) -> DeviceNode:
    """Return the host's device ``path`` as a container has it at ``shown``. Raises OSError; ValueError: it is none."""
    status = path.stat()
    if stat.S_ISCHR(status.st_mode):
        kind = "c"
    elif stat.S_ISBLK(status.st_mode):
        kind = "b"
    else:
        raise ValueError(f"{path} is not a device node")
    number = status.st_rdev
    mode = stat.S_IMODE(status.st_mode)
    return DeviceNode(shown, kind, os.major(number), os.minor(number), mode, status.st_uid, status.st_gid)


def _oci_rule(text: str) -> dict[str, object]:
    kind, major, minor, access = parse_rule(text)
    rule: dict[str, object] = {"allow": True, "type": kind, "access": access}
    return rule | {key: int(value) for key, value in (("major", major), ("minor", minor)) if value != "*"}
