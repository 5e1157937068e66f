"""``--volume``, ``--mount`` and ``--tmpfs``."""

import csv
import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sampan.docker.booleans import parse_bool
from sampan.docker.mounts import MODES, PROPAGATIONS, parse_mode
from sampan.docker.sizes import parse_size
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Mount, MountType

_VOLUME_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_TYPES: Final = {"bind": MountType.BIND, "volume": MountType.VOLUME, "tmpfs": MountType.TMPFS}


def parse_volume(text: str, directory: Path) -> Mount | str:
    """Parse ``[source:]target[:options]``; a target alone is returned as it is: an anonymous volume.

    ``directory`` is what a source that begins with a dot is relative to.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise _invalid(text)
    if len(parts) == 2 and not parts[1].startswith("/") and _are_modes(parts[1]):
        parts.insert(0, "")  # target:options
    source, target, mode = parts if len(parts) == 3 else (*parts, "") if len(parts) == 2 else ("", *parts, "")
    target = _target(text, target)
    if not source and not mode:
        return target
    if source.startswith((".", "~/")) or source == "~":
        source = str((directory / Path(source).expanduser()).resolve())
    if source.startswith("/"):
        mount = Mount(MountType.BIND, target, posixpath.normpath(source), create_source=True, mode=mode)
    else:
        if source:
            _check_volume_name(source)
        mount = Mount(MountType.VOLUME, target, source, mode=mode)
    return _with_modes(mount, text)


def _are_modes(text: str) -> bool:
    return MODES.issuperset(text.split(","))


def _with_modes(mount: Mount, text: str) -> Mount:
    invalid = f"invalid volume specification: '{text}': invalid mode: {mount.mode}"
    try:
        words = parse_mode(mount.mode)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(invalid) from error
    misplaced = {"copy", "nocopy"} if mount.type is MountType.BIND else PROPAGATIONS
    if misplaced.intersection(words):
        raise InvalidArgumentError(invalid)
    return replace(
        mount,
        read_only="ro" in words,
        propagation=next((word for word in words if word in PROPAGATIONS), ""),
        no_copy="nocopy" in words,
    )


def _check_volume_name(name: str) -> None:
    if len(name) == 1:
        raise InvalidArgumentError(
            f"create {name}: volume name is too short, names should be at least two alphanumeric characters"
        )
    if not _VOLUME_NAME.fullmatch(name):
        raise InvalidArgumentError(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )


def _target(text: str, target: str) -> str:
    if not target.startswith("/"):
        raise InvalidArgumentError(
            f"invalid volume specification: '{text}': invalid mount path: '{target}' mount path must be absolute"
        )
    target = posixpath.normpath(target)
    if target.strip("/") == "":
        raise InvalidArgumentError(f"invalid volume specification: '{text}': destination can't be '/'")
    return target


def _invalid(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"invalid volume specification: '{text}'")


def parse_tmpfs(text: str) -> Mount:
    """Parse ``/target[:options]``; options are mount(8)'s.

    Raises:
        InvalidArgumentError: a relative target, or a bad size or mode.
    """
    target, _, options = text.partition(":")
    fields: dict[str, Any] = {}
    others: list[str] = []
    for option in filter(None, options.split(",")):
        key, _, value = option.partition("=")
        if key == "size" and not value.endswith("%"):
            fields["tmpfs_size_bytes"] = parse_size(value)
        elif key == "mode":
            fields["tmpfs_mode"] = _octal(value)
        elif key in ("ro", "rw"):
            fields["read_only"] = key == "ro"
        else:
            others.append(option)
    return Mount(MountType.TMPFS, _target(text, target), mode=options, options=tuple(others), **fields)


def _octal(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise InvalidArgumentError(f"invalid value for tmpfs-mode: {text}") from None


def parse_mount(text: str, directory: Path) -> Mount:
    """Parse ``type=bind,source=/a,target=/b,readonly``; a comma within a value needs quotes, as in CSV.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    fields: dict[str, str] = {}
    maps: dict[str, Any] = {"volume_labels": {}, "volume_options": {}}
    for field in next(csv.reader([text], strict=True), []):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals and key not in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src"):
            raise InvalidArgumentError(f"invalid field '{field}' must be a key=value pair")
        if key in _MAPS:
            name, _, given = value.partition("=")
            maps[_MAPS[key]][name] = given
        elif key not in _KEYS:
            raise InvalidArgumentError(f"unexpected key '{key}' in '{field}'")
        else:
            fields[_KEYS[key]] = value
    kind = fields.pop("type", "volume")
    if kind not in _TYPES:
        raise InvalidArgumentError(f"mount type {kind!r} is not supported: bind, volume or tmpfs")
    if not fields.get("target"):
        raise InvalidArgumentError("target is required")
    target = _target(text, fields.pop("target"))
    mount = Mount(_TYPES[kind], target, **_parsed(fields, directory), **maps)
    _check_source(mount)
    return mount


_MAPS: Final = {"volume-label": "volume_labels", "volume-opt": "volume_options"}
_KEYS: Final = {
    "type": "type",
    **dict.fromkeys(("source", "src"), "source"),
    **dict.fromkeys(("target", "dst", "destination"), "target"),
    **dict.fromkeys(("readonly", "ro"), "read_only"),
    "consistency": "consistency",
    "bind-propagation": "propagation",
    "bind-nonrecursive": "non_recursive",
    "bind-recursive": "recursive",
    "bind-create-src": "create_source",
    "volume-nocopy": "no_copy",
    "volume-driver": "volume_driver",
    "volume-subpath": "volume_subpath",
    "tmpfs-size": "tmpfs_size_bytes",
    "tmpfs-mode": "tmpfs_mode",
}


def _parsed(fields: Mapping[str, str], directory: Path) -> dict[str, Any]:
    """Return the fields of a mount with their values."""
    parsed: dict[str, Any] = {}
    for key, value in fields.items():
        if key in ("read_only", "non_recursive", "no_copy", "create_source"):
            parsed[key] = _boolean(key, value)
        elif key == "tmpfs_size_bytes":
            parsed[key] = parse_size(value)
        elif key == "tmpfs_mode":
            parsed[key] = _octal(value)
        elif key == "recursive":
            parsed["non_recursive"] = value == "disabled"
        elif key == "volume_subpath":
            raise InvalidArgumentError("volume-subpath is not supported")
        elif key == "source" and value.startswith("."):
            parsed[key] = str((directory / value).resolve())
        elif key != "consistency":
            parsed[key] = value
    return parsed


def _check_source(mount: Mount) -> None:
    if mount.type is MountType.BIND:
        if not mount.source:
            raise InvalidArgumentError('invalid mount config for type "bind": field Source must not be empty')
        if not mount.source.startswith("/"):
            raise InvalidArgumentError(
                f"invalid mount config for type \"bind\": invalid mount path: '{mount.source}' "
                "mount path must be absolute"
            )
    elif mount.type is MountType.TMPFS and mount.source:
        raise InvalidArgumentError('invalid mount config for type "tmpfs": field Source must not be specified')
    elif mount.type is MountType.VOLUME and mount.source:
        _check_volume_name(mount.source)


def _boolean(key: str, value: str) -> bool:
    # Docker's client takes an empty value for true: ``readonly=`` is ``readonly``.
    return parse_bool(value or "true", key.replace("_", "-"))
