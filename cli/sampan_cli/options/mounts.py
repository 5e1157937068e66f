"""``--volume``, ``--mount`` and ``--tmpfs``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sampan.docker.booleans import parse_bool
from sampan.docker.options import tmpfs
from sampan.docker.options.binds import parse_bind
from sampan.docker.options.mounts import mount_type
from sampan.docker.sizes import parse_size
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Mount, MountType
from sampan_cli.options.types import flag_fields

_RECURSIVE: Final = ("enabled", "disabled", "writable", "readonly")


def parse_volume(text: str, directory: Path, driver: str = "") -> Mount | str:
    """Parse ``[source:]target[:mode]``; a target alone is returned as it is: an anonymous volume.

    ``directory`` is what a source that begins with a dot is relative to; ``driver`` is as for ``parse_bind``.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    source, colon, rest = text.partition(":")
    if colon and (source.startswith((".", "~/")) or source == "~"):
        text = f"{(directory / Path(source).expanduser()).resolve()}:{rest}"
    mount = parse_bind(text, driver)
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
    maps: dict[str, dict[str, str]] = {"volume-label": {}, "volume-opt": {}}
    for field in flag_fields("--mount", text):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if not equals and key not in _NEED_NO_VALUE:
            raise InvalidArgumentError(f"invalid field '{field}' must be a key=value pair")
        key = _ALIASES.get(key, key)
        if key in maps:
            name, _, given = value.partition("=")
            maps[key][name] = given
        elif key not in _KEYS:
            raise InvalidArgumentError(f"unexpected key '{key}' in '{field}'")
        else:
            fields[key] = value
    recursive = _recursive(fields)
    kind = mount_type(fields.get("type", "volume"))
    for option, needed in (("volume-subpath", MountType.VOLUME), ("image-subpath", MountType.IMAGE)):
        if fields.get(option) and kind is not needed:
            raise InvalidArgumentError(f"cannot mix '{option.split('-')[0]}-*' options with mount type '{kind.value}'")
    return Mount(
        kind,
        fields.get("target", ""),
        source=_source(fields.get("source", ""), directory),
        read_only=_flag(fields, "readonly"),
        propagation=fields.get("bind-propagation", ""),
        non_recursive=_flag(fields, "bind-nonrecursive") or recursive == "disabled",
        read_only_non_recursive=recursive == "writable",
        read_only_force_recursive=recursive == "readonly",
        create_source=_flag(fields, "bind-create-src"),
        no_copy=_flag(fields, "volume-nocopy"),
        volume_driver=fields.get("volume-driver", ""),
        tmpfs_size_bytes=parse_size(fields["tmpfs-size"]) if "tmpfs-size" in fields else 0,
        tmpfs_mode=_octal(fields["tmpfs-mode"]) if "tmpfs-mode" in fields else 0,
        volume_labels=maps["volume-label"],
        volume_options=maps["volume-opt"],
        subpath=fields.get("image-subpath", "") or fields.get("volume-subpath", ""),
    )


_ALIASES: Final = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_KEYS: Final = frozenset((
    "type", "source", "target", "readonly", "consistency", "bind-propagation", "bind-nonrecursive", "bind-recursive",
    "bind-create-src", "volume-nocopy", "volume-driver", "volume-subpath", "image-subpath", "tmpfs-size", "tmpfs-mode",
))  # fmt: skip
_NEED_NO_VALUE: Final = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive", "bind-create-src")


def _source(text: str, directory: Path) -> str:
    return str((directory / text).resolve()) if text.startswith(".") else text


def _flag(fields: Mapping[str, str], key: str) -> bool:
    # Docker's client takes an empty value for true: ``readonly=`` is ``readonly``.
    return key in fields and parse_bool(fields[key] or "true", key)


def _recursive(fields: Mapping[str, str]) -> str:
    value = fields.get("bind-recursive", "enabled")
    if value not in _RECURSIVE:
        raise InvalidArgumentError(
            f'invalid value for bind-recursive: {value} (must be "enabled", "disabled", "writable", or "readonly")'
        )
    if value in ("writable", "readonly") and not _flag(fields, "readonly"):
        raise InvalidArgumentError(
            f"option 'bind-recursive={value}' requires 'readonly' to be specified in conjunction"
        )
    if value == "readonly" and fields.get("bind-propagation") != "rprivate":
        raise InvalidArgumentError(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
        )
    return value
