"""Mounts as Docker's clients ask for them: ``Binds``, ``Mounts``, ``Tmpfs``."""

from dataclasses import replace

from dockerapi.http.fields import UINT32, Fields
from sampan.docker.mounts import MODES, PROPAGATIONS, parse_mode
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Mount, MountType


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
    if len(parts) == 2 and target in MODES:
        raise InvalidArgumentError(f"invalid volume specification: '{text}'")
    words = parse_mode(mode)
    absolute = source.startswith("/")
    if target == "/":
        kind = "bind" if absolute else "volume"
        raise InvalidArgumentError(
            f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": "
            "invalid specification: destination can't be '/'"
        )
    return Mount(
        type=MountType.BIND if absolute else MountType.VOLUME,
        source=source,
        target=target,
        read_only="ro" in words,
        propagation=next((word for word in words if word in PROPAGATIONS), ""),
        create_source=absolute,
        no_copy="nocopy" in words,
        mode=mode,
    )


def parse_mount(sent: Fields) -> Mount:
    """Parse one element of ``Mounts``, the form that ``--mount`` has.

    Raises:
        InvalidArgumentError: in Docker's words, an unknown type or a missing target.
    """
    kind = sent.text("Type").lower()
    if kind not in ("bind", "volume", "tmpfs"):
        raise InvalidArgumentError(f'invalid mount config for type "{kind}": mount type unknown')
    source, target, read_only = sent.text("Source"), sent.text("Target"), sent.flag("ReadOnly")
    if not target:
        raise InvalidArgumentError(f'invalid mount config for type "{kind}": field Target must not be empty')
    if kind == "bind":
        if not source:
            raise InvalidArgumentError('invalid mount config for type "bind": field Source must not be empty')
        options = sent.fields("BindOptions")
        return Mount(
            MountType.BIND,
            target,
            source,
            read_only,
            propagation=options.text("Propagation"),
            non_recursive=options.flag("NonRecursive"),
            create_source=options.flag("CreateMountpoint"),
        )
    if kind == "volume":
        return replace(_volume(target, sent.fields("VolumeOptions")), source=source, read_only=read_only)
    if source:
        raise InvalidArgumentError('invalid mount config for type "tmpfs": field Source must not be specified')
    return replace(_tmpfs(target, sent.fields("TmpfsOptions")), read_only=read_only)


def _volume(target: str, options: Fields) -> Mount:
    driver = options.fields("DriverConfig")
    if options.text("Subpath"):
        raise InvalidArgumentError("volume-subpath is not supported by this engine")
    return Mount(
        MountType.VOLUME,
        target,
        no_copy=options.flag("NoCopy"),
        volume_driver=driver.text("Name"),
        volume_labels=options.mapping("Labels"),
        volume_options=driver.mapping("Options"),
    )


def _tmpfs(target: str, options: Fields) -> Mount:
    given: list[str] = []
    for pair in options.get("Options") or []:
        if not isinstance(pair, list) or not all(isinstance(word, str) for word in pair):
            raise InvalidArgumentError('invalid mount config for type "tmpfs": invalid Options')
        given.append("=".join(pair))
    return Mount(
        MountType.TMPFS,
        target,
        tmpfs_size_bytes=options.number("SizeBytes"),
        tmpfs_mode=options.number("Mode", UINT32),
        options=tuple(given),
    )


def mounts(host: Fields) -> list[Mount]:
    """Return all mounts of a ``HostConfig``, except ``VolumesFrom``."""
    driver = host.text("VolumeDriver")
    result = [parse_bind(text) for text in host.texts("Binds")]
    result = [replace(one, volume_driver=driver) if one.type is MountType.VOLUME else one for one in result]
    result += [parse_mount(sent) for sent in host.items("Mounts")]
    for target, options in host.mapping("Tmpfs").items():
        result.append(
            Mount(type=MountType.TMPFS, target=target, options=tuple(word for word in options.split(",") if word))
        )
    return result
