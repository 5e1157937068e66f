"""Mounts as Docker's clients ask for them: ``Binds``, ``Mounts``, ``Tmpfs``."""

from dataclasses import replace

from dockerapi.http.fields import UINT32, Fields
from sampan.docker.options.binds import parse_bind
from sampan.docker.options.mounts import mount_type
from sampan.docker.options.tmpfs import parse_tmpfs
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Mount, MountType


def parse_mount(sent: Fields) -> Mount:
    """Read one element of ``Mounts``, the form that ``--mount`` has; ``check_mounts`` looks at what it says.

    Raises:
        InvalidArgumentError: in Docker's words, an unknown type, or what this engine cannot do.
    """
    bind, volume = sent.fields("BindOptions"), sent.fields("VolumeOptions")
    driver = volume.fields("DriverConfig")
    kind = mount_type(sent.text("Type"))
    of_image = sent.fields("ImageOptions").text("Subpath")
    if of_image and kind is not MountType.IMAGE:
        raise InvalidArgumentError(
            f'invalid mount config for type "{kind.value}": field ImageOptions must not be specified'
        )
    if kind is MountType.IMAGE and volume.text("Subpath"):
        raise InvalidArgumentError('invalid mount config for type "image": field VolumeOptions must not be specified')
    mount = Mount(
        kind,
        sent.text("Target"),
        sent.text("Source"),
        sent.flag("ReadOnly"),
        propagation=bind.text("Propagation"),
        non_recursive=bind.flag("NonRecursive"),
        read_only_non_recursive=bind.flag("ReadOnlyNonRecursive"),
        read_only_force_recursive=bind.flag("ReadOnlyForceRecursive"),
        create_source=bind.flag("CreateMountpoint"),
        no_copy=volume.flag("NoCopy"),
        volume_driver=driver.text("Name"),
        volume_labels=volume.mapping("Labels"),
        volume_options=driver.mapping("Options"),
        subpath=of_image or volume.text("Subpath"),
    )
    return _with_tmpfs(mount, sent.fields("TmpfsOptions")) if mount.type is MountType.TMPFS else mount


def _with_tmpfs(mount: Mount, options: Fields) -> Mount:
    given: list[str] = []
    for pair in options.get("Options") or []:
        if not isinstance(pair, list) or not all(isinstance(word, str) for word in pair):
            raise InvalidArgumentError('invalid mount config for type "tmpfs": invalid Options')
        given.append("=".join(pair))
    return replace(
        mount,
        tmpfs_size_bytes=options.number("SizeBytes"),
        tmpfs_mode=options.number("Mode", UINT32),
        options=tuple(given),
    )


def mounts(host: Fields) -> list[Mount]:
    """Return all mounts of a ``HostConfig``, except ``VolumesFrom``."""
    driver = host.text("VolumeDriver")
    result = [parse_bind(text, driver) for text in host.texts("Binds")]
    result += [parse_mount(sent) for sent in host.items("Mounts")]
    return result + [parse_tmpfs(target, options) for target, options in host.mapping("Tmpfs").items()]
