"""Devices of the Container Device Interface: what vendors' files say a container needs to use one.

A file describes devices of one kind, ``vendor/class``, by what each changes in a container: variables, device nodes,
mounts, hooks. Of two files that describe the same device, the one in the later directory counts; two in the same
directory are a conflict, and nobody gets the device.

Reference: github.com/cncf-tags/container-device-interface, SPEC.md, version 1.0.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.docker.options.devices import CDI, CLASS, DEVICE_NAME, VENDOR, is_cdi_name
from sampan.errors import InvalidArgumentError, StartError
from sampan.json_types import JsonObject
from sampan.resource.container_spec import DeviceRequest

_MAX_BYTES: Final = 4 << 20
_SUFFIXES: Final = (".json", ".yaml", ".yml")

# What ``--gpus`` stands for, by the driver that it names; without one, the first of which there are devices.
_GPUS: Final = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}

_EDITS: Final = frozenset({"env", "deviceNodes", "mounts", "hooks", "additionalGids", "intelRdt"})
_HOOKS: Final = frozenset({"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"})


@dataclass(frozen=True, slots=True)
class CdiFile:
    """One file: what is changed for any of its devices, and for each."""

    path: str
    kind: str
    common: JsonObject
    devices: Mapping[str, JsonObject]  # by name, without the kind


@dataclass(frozen=True, slots=True)
class CdiDevices:
    """What the files describe, by qualified name, ``vendor/class=name``; and what is wrong with some of them."""

    files: Mapping[str, CdiFile]
    problems: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All qualified names, in order."""
        return tuple(sorted(self.files))


def read_devices(directories: Iterable[str]) -> CdiDevices:
    """Read all files. Blocks. What cannot be read is a problem, and keeps nothing else from being used."""
    found: dict[str, CdiFile] = {}
    problems: list[str] = []
    for directory in directories:
        here: dict[str, CdiFile] = {}
        conflicts: set[str] = set()
        for path in _files(Path(directory)):
            try:
                file = _read(path)
            except (InvalidArgumentError, OSError, ValueError) as error:
                problems.append(f"CDI: {path}: {str(error)[:300]}")
                continue
            for name in file.devices:
                qualified = f"{file.kind}={name}"
                if qualified in here:
                    conflicts.add(qualified)
                    problems.append(f'CDI: conflicting device "{qualified}" ({here[qualified].path}, {path})')
                here[qualified] = file
        found |= here
        for name in conflicts:
            del found[name]
    return CdiDevices(found, tuple(problems))


def _files(directory: Path) -> Iterator[Path]:
    try:
        yield from sorted(path for path in directory.iterdir() if path.suffix in _SUFFIXES)
    except OSError:
        return


def _read(path: Path) -> CdiFile:
    with path.open("rb") as file:
        text = file.read(_MAX_BYTES + 1)
    if len(text) > _MAX_BYTES:
        raise InvalidArgumentError(f"larger than {_MAX_BYTES} bytes")
    document = json.loads(text) if path.suffix == ".json" else _yaml(text)
    if not isinstance(document, dict):
        raise InvalidArgumentError("not an object")
    kind = str(document.get("kind", ""))
    vendor, slash, device_class = kind.partition("/")
    if not (slash and VENDOR.fullmatch(vendor) and CLASS.fullmatch(device_class)):
        raise InvalidArgumentError(f"invalid kind {kind!r}")
    if not isinstance(document.get("cdiVersion"), str):
        raise InvalidArgumentError("no cdiVersion")
    devices: dict[str, JsonObject] = {}
    for device in _rows(document, "devices"):
        name = str(device.get("name", ""))
        if not DEVICE_NAME.fullmatch(name):
            raise InvalidArgumentError(f"invalid device name {name!r}")
        if name in devices:
            raise InvalidArgumentError(f"device {name!r} is there twice")
        devices[name] = _edits(device, f"device {name}")
    if not devices:
        raise InvalidArgumentError("no devices")
    return CdiFile(str(path), kind, _edits(document, kind), devices)


def _yaml(text: bytes) -> object:
    import yaml  # 2 MB that only hosts with such files need

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidArgumentError(" ".join(str(error).split())) from error


def _rows(document: JsonObject, key: str) -> list[JsonObject]:
    rows = document.get(key) or []
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidArgumentError(f"{key} is not a list of objects")
    return rows


def _edits(owner: JsonObject, where: str) -> JsonObject:
    """Return the checked ``containerEdits`` of a document or a device."""
    edits = owner.get("containerEdits") or {}
    if not isinstance(edits, dict):
        raise InvalidArgumentError(f"{where}: containerEdits is not an object")
    if unknown := edits.keys() - _EDITS:
        raise InvalidArgumentError(f"{where}: {', '.join(sorted(unknown))} is not known to this engine")
    for text in edits.get("env") or []:
        if not isinstance(text, str) or "=" not in text[1:]:
            raise InvalidArgumentError(f"{where}: invalid environment variable {text!r}")
    for node in _rows(edits, "deviceNodes"):
        _absolute(node, "path", where)
        if str(node.get("type", "")) not in ("", "b", "c", "u", "p"):
            raise InvalidArgumentError(f"{where}: device {node['path']}: invalid type {node['type']!r}")
        if not re.fullmatch("[rwm]{0,3}", str(node.get("permissions", ""))):
            raise InvalidArgumentError(f"{where}: device {node['path']}: invalid permissions {node['permissions']!r}")
        if node.get("hostPath"):
            _absolute(node, "hostPath", where)
    for mount in _rows(edits, "mounts"):
        _absolute(mount, "containerPath", where)
        if not mount.get("hostPath"):
            raise InvalidArgumentError(f"{where}: mount at {mount['containerPath']}: no hostPath")
    for hook in _rows(edits, "hooks"):
        _absolute(hook, "path", where)
        if hook.get("hookName") not in _HOOKS:
            raise InvalidArgumentError(f"{where}: unknown hook {hook.get('hookName')!r}")
    return edits


def _absolute(row: JsonObject, key: str, where: str) -> None:
    value = row.get(key)
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise InvalidArgumentError(f"{where}: {key} {value!r} is not an absolute path")


def wanted_names(requests: Sequence[DeviceRequest], known: CdiDevices) -> list[str]:
    """Return the qualified names of the devices that a container asks for.

    Raises:
        StartError: no driver here is meant, or a device is unknown; Docker's words.
    """
    names: list[str] = []
    for request in requests:
        if request.driver == CDI:
            names += request.device_ids
        else:
            names += _gpus(request, known)
    if missing := [name for name in names if name not in known.files]:
        raise StartError(f"CDI device injection failed: unresolvable CDI devices {', '.join(missing)}")
    return names


def _gpus(request: DeviceRequest, known: CdiDevices) -> list[str]:
    kinds = {file.kind for file in known.files.values()}
    drivers = [request.driver] if request.driver else list(_GPUS)
    kind = next((_GPUS[name] for name in drivers if _GPUS.get(name) in kinds), "")
    if not kind or not any("gpu" in each.names for each in request.capabilities):
        asked = " ".join(f"[{' '.join(each.names)}]" for each in request.capabilities)
        raise StartError(f'could not select device driver "{request.driver}" with capabilities: [{asked}]')
    if request.device_ids:
        chosen: Iterable[str] = request.device_ids
    elif request.count < 0:
        chosen = ("all",)
    else:
        chosen = map(str, range(request.count))
    return [one if is_cdi_name(one) else f"{kind}={one}" for one in chosen]
