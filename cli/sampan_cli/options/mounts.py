"""``--volume``, ``--mount`` and ``--tmpfs``."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sampan.docker.booleans import parse_bool
from sampan.docker.options import tmpfs
from sampan.docker.options.binds import parse_bind
from sampan.docker.options.mounts import mount_type
from sampan.docker.sizes import parse_size
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Mount

_RECURSIVE: Final = {"enabled": False, "readonly": False, "disabled": True}


def parse_volume(text: str, directory: Path) -> Mount | str:
    """Parse ``[source:]target[:mode]``; a target alone is returned as it is: an anonymous volume.

    ``directory`` is what a source that begins with a dot is relative to.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    source, colon, rest = text.partition(":")
    if colon and (source.startswith((".", "~/")) or source == "~"):
        text = f"{(directory / Path(source).expanduser()).resolve()}:{rest}"
    mount = parse_bind(text)
    return mount if mount.source or mount.mode else mount.target


def parse_tmpfs(text: str) -> Mount:
    """Parse ``/target[:options]``; options are mount(8)'s."""
    target, _, options = text.partition(":")
    return tmpfs.parse_tmpfs(target, options)


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
    kind = mount_type(fields.pop("type", "volume"))
    return Mount(kind, fields.pop("target", ""), **_parsed(fields, directory), **maps)


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
            parsed["non_recursive"] = _non_recursive(value)
        elif key == "volume_subpath":
            raise InvalidArgumentError("volume-subpath is not supported by this engine")
        elif key == "source" and value.startswith("."):
            parsed[key] = str((directory / value).resolve())
        elif key != "consistency":
            parsed[key] = value
    return parsed


def _non_recursive(value: str) -> bool:
    if value == "writable":
        raise InvalidArgumentError("bind-recursive=writable is not supported by this engine")
    if value not in _RECURSIVE:
        raise InvalidArgumentError(
            f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", "writable", or "readonly")'
        )
    return _RECURSIVE[value]


def _boolean(key: str, value: str) -> bool:
    # Docker's client takes an empty value for true: ``readonly=`` is ``readonly``.
    return parse_bool(value or "true", key.replace("_", "-"))
