"""Mounts as Docker's clients ask for them: ``Binds``, ``Mounts``, ``Tmpfs``, ``VolumesFrom``."""

from collections.abc import Iterable
from typing import Final

from dockerapi.http.fields import UINT32, Fields
from sampan.api.runtime.v1 import containers_pb2, spec_pb2
from sampan.errors import InvalidArgumentError

Mount = spec_pb2.Mount

_PROPAGATIONS: Final = frozenset({"shared", "slave", "private", "rshared", "rslave", "rprivate"})
# Of each kind, a mode has one word at most.
_KINDS_OF_WORDS: Final = (
    frozenset({"rw", "ro"}),
    frozenset({"z", "Z"}),
    frozenset({"copy", "nocopy"}),
    frozenset({"consistent", "cached", "delegated"}),
    _PROPAGATIONS,
)
_MODES: Final = frozenset[str]().union(*_KINDS_OF_WORDS)


def parse_bind(text: str) -> Mount:
    """Parse the argument of ``-v``: ``[source:]target[:mode]``.

    A source that is an absolute path is bound, and made if it is missing; any other is the name of a volume.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    parts = text.split(":")
    if not all(parts) or len(parts) > 3:
        raise InvalidArgumentError(f"invalid volume specification: '{text}'")
    mode = ""
    if len(parts) == 1:
        source, target = "", parts[0]
    else:
        source, target = parts[0], parts[1]
        mode = parts[2] if len(parts) == 3 else ""
    if len(parts) == 2 and target in _MODES:
        raise InvalidArgumentError(f"invalid volume specification: '{text}'")
    words = _words(mode)
    absolute = source.startswith("/")
    if target == "/":
        kind = "bind" if absolute else "volume"
        raise InvalidArgumentError(
            f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": "
            "invalid specification: destination can't be '/'"
        )
    return Mount(
        type=Mount.BIND if absolute else Mount.VOLUME,
        source=source,
        target=target,
        read_only="ro" in words,
        propagation=next((word for word in words if word in _PROPAGATIONS), ""),
        create_source=absolute,
        no_copy="nocopy" in words,
        mode=mode,
    )


def _words(mode: str) -> list[str]:
    words = [word for word in mode.split(",") if word]
    if not _MODES.issuperset(words) or any(len(kind.intersection(words)) > 1 for kind in _KINDS_OF_WORDS):
        raise InvalidArgumentError(f"invalid mode: {mode}")
    return words


def parse_mount(sent: Fields) -> Mount:
    """Parse one element of ``Mounts``, the form that ``--mount`` has.

    Raises:
        InvalidArgumentError: in Docker's words, an unknown type or a missing target.
    """
    kind = sent.text("Type").lower()
    if kind not in ("bind", "volume", "tmpfs"):
        raise InvalidArgumentError(f'invalid mount config for type "{kind}": mount type unknown')
    mount = Mount(source=sent.text("Source"), target=sent.text("Target"), read_only=sent.flag("ReadOnly"))
    if not mount.target:
        raise InvalidArgumentError(f'invalid mount config for type "{kind}": field Target must not be empty')
    if kind == "bind":
        options = sent.fields("BindOptions")
        mount.type = Mount.BIND
        mount.propagation = options.text("Propagation")
        mount.non_recursive = options.flag("NonRecursive")
        mount.create_source = options.flag("CreateMountpoint")
        if not mount.source:
            raise InvalidArgumentError('invalid mount config for type "bind": field Source must not be empty')
    elif kind == "volume":
        _volume(mount, sent.fields("VolumeOptions"))
    else:
        _tmpfs(mount, sent.fields("TmpfsOptions"))
        if mount.source:
            raise InvalidArgumentError('invalid mount config for type "tmpfs": field Source must not be specified')
    return mount


def _volume(mount: Mount, options: Fields) -> None:
    driver = options.fields("DriverConfig")
    if options.text("Subpath"):
        raise InvalidArgumentError("volume-subpath is not supported by this engine")
    mount.type = Mount.VOLUME
    mount.no_copy = options.flag("NoCopy")
    mount.volume_driver = driver.text("Name")
    mount.volume_labels.update(options.mapping("Labels"))
    mount.volume_options.update(driver.mapping("Options"))


def _tmpfs(mount: Mount, options: Fields) -> None:
    mount.type = Mount.TMPFS
    mount.tmpfs_size_bytes = options.number("SizeBytes")
    mount.tmpfs_mode = options.number("Mode", UINT32)
    for pair in options.get("Options") or []:
        if not isinstance(pair, list) or not all(isinstance(word, str) for word in pair):
            raise InvalidArgumentError('invalid mount config for type "tmpfs": invalid Options')
        mount.options.append("=".join(pair))


def mounts(host: Fields) -> list[Mount]:
    """Return all mounts of a ``HostConfig``, except ``VolumesFrom``."""
    driver = host.text("VolumeDriver")
    result = [parse_bind(text) for text in host.texts("Binds")]
    for mount in result:
        if mount.type == Mount.VOLUME:
            mount.volume_driver = driver
    result += [parse_mount(sent) for sent in host.items("Mounts")]
    for target, options in host.mapping("Tmpfs").items():
        result.append(Mount(type=Mount.TMPFS, target=target, options=[word for word in options.split(",") if word]))
    return result


def parse_volumes_from(text: str) -> tuple[str, bool]:
    """Parse ``container[:ro|rw…]``: whose volumes, and whether they are read-only.

    Raises:
        InvalidArgumentError: in Docker's words, an unknown mode.
    """
    container, _, mode = text.partition(":")
    if not container:
        raise InvalidArgumentError(f"invalid volumes-from specification: '{text}'")
    return container, "ro" in _words(mode)


def inherited(points: Iterable[containers_pb2.MountPoint], own: Iterable[Mount], *, read_only: bool) -> list[Mount]:
    """Return the mounts that ``--volumes-from`` takes over; targets in ``own`` win."""
    taken = {mount.target for mount in own}
    result = []
    for point in points:
        if point.target in taken or point.type == Mount.TMPFS:
            continue
        named = point.type == Mount.VOLUME
        result.append(
            Mount(
                type=point.type,
                source=point.name if named else point.source,
                target=point.target,
                read_only=read_only or not point.read_write,
                propagation="" if named else point.propagation,
                volume_driver=point.driver,
                no_copy=True,
            )
        )
    return result


_TYPES: Final = {Mount.BIND: "bind", Mount.VOLUME: "volume", Mount.TMPFS: "tmpfs"}


def points_json(points: Iterable[containers_pb2.MountPoint]) -> list[dict[str, object]]:
    """Return the mounts as they are, in the shape of ``Mounts`` in an inspect and in a list."""
    result = []
    for point in points:
        row: dict[str, object] = {"Type": _TYPES[point.type]}
        if point.name:
            row["Name"] = point.name
        row |= {"Source": point.source, "Destination": point.target}
        if point.driver:
            row["Driver"] = point.driver
        row |= {"Mode": point.mode, "RW": point.read_write, "Propagation": point.propagation}
        result.append(row)
    return result


def binds_json(asked: Iterable[Mount]) -> list[str] | None:
    """Return binds and named volumes in the form of ``Binds``; null without any."""
    result = []
    for mount in asked:
        if mount.type != Mount.TMPFS and mount.source:
            mode = mount.mode or ("ro" if mount.read_only else "")
            result.append(":".join(part for part in (mount.source, mount.target, mode) if part))
    return result or None
