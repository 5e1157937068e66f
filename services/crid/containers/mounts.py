"""Mounts of a container: what kubelet asks for, and what every container of a pod has."""

import posixpath
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from crid.model.config import ContainerConfig, Mount, Propagation
from crid.model.security import IDMapping, NamespaceMode
from crid.sandboxes.host import Places
from crid.sandboxes.model import Sandbox
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.resource import container_spec as spec

_OPTIONS: Final = frozenset({"noexec", "nodev", "nosuid"})
_SHM: Final = "/dev/shm"  # noqa: S108  # the container's


def mounts_of(sandbox: Sandbox, places: Places, config: ContainerConfig) -> tuple[spec.Mount, ...]:
    """Return all mounts; what kubelet brings stands in the place of a pod's own. Blocks, to follow links.

    Raises:
        InvalidArgumentError: a mount that cannot be meant.
        UnimplementedError: one that OCI runtimes cannot make.
    """
    asked = tuple(map(_mount, config.mounts))
    if sandbox.namespaces.mappings is not None:
        for mount in asked:
            if mount.type is spec.MountType.BIND and mount.options and not mount.read_only:
                # crun 1.8 makes such a mount and forgets them, without a word.
                raise UnimplementedError(
                    f"mounts: mount_options of {mount.target} cannot be given in a pod with a user namespace"
                    " unless the mount is read-only"
                )
    taken = {posixpath.normpath(mount.target) for mount in asked}
    read_only = config.linux.security_context.readonly_rootfs
    own = [
        spec.Mount(spec.MountType.BIND, target, str(source), read_only=read_only and target != _SHM)
        for target, source in _of_pod(sandbox, places)
        if target not in taken
    ]
    return (*own, *asked)


def _of_pod(sandbox: Sandbox, places: Places) -> Iterator[tuple[str, Path]]:
    yield "/etc/hostname", places.hostname
    yield "/etc/hosts", places.hosts
    yield "/etc/resolv.conf", places.resolv_conf
    if sandbox.namespaces.ipc is NamespaceMode.POD:
        yield _SHM, places.shm


def _mount(mount: Mount) -> spec.Mount:
    target = mount.container_path
    if not target.startswith("/"):
        raise InvalidArgumentError(f"mounts: container_path is {target!r}: expected an absolute path")
    for option in mount.mount_options:
        if option not in _OPTIONS:
            raise InvalidArgumentError(
                f"mounts: {target} has mount_options {option!r}: noexec, nodev, nosuid are known"
            )
    if mount.image is not None and mount.image.image:
        return _image(mount)
    # Of a pod that mounts any image, kubelet sends every subPath as image_sub_path, too: host_path has it already.
    if not mount.host_path.startswith("/") or "\0" in mount.host_path:
        raise InvalidArgumentError(f"mounts: host_path of {target} is {mount.host_path!r}: expected an absolute path")
    private = mount.propagation is Propagation.PROPAGATION_PRIVATE
    if mount.recursive_read_only and not (mount.readonly and private):
        raise InvalidArgumentError(f"mounts: recursive_read_only of {target} needs readonly and PROPAGATION_PRIVATE")
    return spec.Mount(
        type=spec.MountType.BIND,
        target=target,
        source=str(Path(mount.host_path).resolve()),  # a link is followed here, and what it leads to is mounted
        read_only=mount.readonly,
        propagation=mount.propagation.value,
        create_source=True,
        options=mount.mount_options,
        read_only_non_recursive=mount.readonly and not mount.recursive_read_only,
        read_only_force_recursive=mount.recursive_read_only,
        uid_mappings=tuple(map(_mapping, mount.uid_mappings)),
        gid_mappings=tuple(map(_mapping, mount.gid_mappings)),
    )


def _image(mount: Mount) -> spec.Mount:
    assert mount.image is not None
    if mount.mount_options:
        raise InvalidArgumentError(f"mounts: mount_options of {mount.container_path} go with a host_path")
    if mount.host_path:
        raise InvalidArgumentError(f"mounts: {mount.container_path} has a host_path and an image")
    if not mount.readonly:
        raise InvalidArgumentError(f"mounts: {mount.container_path} is an image, which cannot be written: say readonly")
    path = PurePosixPath(mount.image_sub_path)
    if path.is_absolute() or ".." in path.parts:
        raise InvalidArgumentError(
            f"mounts: image_sub_path of {mount.container_path} is {mount.image_sub_path!r}: a path within the image"
        )
    return spec.Mount(
        spec.MountType.IMAGE,
        mount.container_path,
        mount.image.image,
        read_only=True,
        subpath=mount.image_sub_path if path.parts else "",
    )


def _mapping(mapping: IDMapping) -> spec.IdMapping:
    return spec.IdMapping(mapping.container_id, mapping.host_id, mapping.length)
