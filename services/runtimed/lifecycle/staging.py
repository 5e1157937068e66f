"""Mounts that have a place of their own on the host before a container gets them: images, and parts of volumes.

<bundle>/parts/<n>         an image, <n> being the mount's place in the container's spec
<bundle>/parts/<n>.part    what of it, or of a volume, the container shall have
<bundle>/parts/<n>.mapped  one whose owners are shown by other IDs, <n> being its place among all of the container's

What is mounted of an image is a view of its snapshots, which keeps them as long as the container is there.
"""

import contextlib
import errno
import posixpath
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from runtimed.containers.paths import ContainerPaths
from runtimed.lifecycle.idmapped import Owners
from runtimed.lifecycle.mounter import MappedMounter, Mounter
from runtimed.protocol import SnapshotMount
from sampan.docker.options.mounts import normal
from sampan.errors import ImageMountError, NotFoundError, StartError
from sampan.resource.container import Container, MountPoint
from sampan.resource.container_spec import ContainerSpec, Mount, MountType

_PART: Final = ".part"
_MAPPED: Final = ".mapped"

_WHY: Final = {
    errno.ENOENT: "there is no such path in it",
    errno.ENOTDIR: "there is no such path in it: a file is on the way",
    errno.EXDEV: "a link on the way leads out of it",
    errno.ELOOP: "links on the way lead to each other",
}


def image_views(container_id: str, spec: ContainerSpec) -> Mapping[str, Mount]:
    """Return the images that a container mounts, by the keys of the snapshots that show them."""
    return {
        f"{container_id}.image.{number}": mount
        for number, mount in enumerate(spec.mounts)
        if mount.type is MountType.IMAGE
    }


def placed(points: tuple[MountPoint, ...], spec: ContainerSpec, paths: ContainerPaths) -> tuple[MountPoint, ...]:
    """Return a new container's mounts with where its images will be mounted."""
    places = {normal(mount.target): paths.parts / str(number) for number, mount in enumerate(spec.mounts)}
    return tuple(
        replace(point, source=str(places[point.target])) if point.type is MountType.IMAGE else point for point in points
    )


def staged(container: Container, paths: ContainerPaths) -> tuple[MountPoint, ...]:
    """Return the container's mounts as its bundle has them: each from where the runtime finds it."""
    parts = _parts(container, paths)
    mapped = mapped_owners(container)
    return tuple(
        replace(
            point,
            source=str(paths.parts / f"{number}{_MAPPED}")
            if number in mapped
            else parts.get(point.target, point.source),
        )
        for number, point in enumerate(container.mounts)
    )


def _parts(container: Container, paths: ContainerPaths) -> Mapping[str, str]:
    return {
        normal(mount.target): str(paths.parts / f"{number}{_PART}")
        for number, mount in enumerate(container.spec.mounts)
        if mount.subpath
    }


def mapped_owners(container: Container) -> Mapping[int, Owners]:
    """Return as whose the files in mounts are shown that are, by the mount's place among the container's.

    Those that ask for it, and volumes of a container with a user namespace that the engine gave it.
    """
    asked = {normal(mount.target): mount for mount in container.spec.mounts}
    found: dict[int, Owners] = {}
    own = Owners.of(container.spec.namespaces) if not container.spec.owner else None
    for number, point in enumerate(container.mounts):
        mount = asked.get(point.target)
        if mount is not None and mount.uid_mappings:
            found[number] = Owners(mount.uid_mappings, mount.gid_mappings)
        elif own is not None and point.type is MountType.VOLUME:
            found[number] = own
    return found


def needs_staging(container: Container) -> bool:
    """Whether there is anything to stage."""
    return bool(mapped_owners(container)) or any(
        mount.subpath or mount.type is MountType.IMAGE for mount in container.spec.mounts
    )


def stage(
    container: Container, views: Mapping[str, tuple[SnapshotMount, ...]], mounter: MappedMounter, paths: ContainerPaths
) -> None:
    """Mount what ``staged`` names; ``views`` has the mounts of each key of ``image_views``. Blocks.

    Raises:
        NotFoundError: the part is not there; in Docker's words.
        StartError: it cannot be mounted.
    """
    sources = {point.target: point.source for point in container.mounts}
    owners = Owners.of(container.spec.namespaces)
    for number, mount in enumerate(container.spec.mounts):
        base = Path(sources.get(normal(mount.target), ""))
        if mount.type is MountType.IMAGE:
            base.mkdir(mode=0o700, parents=True, exist_ok=True)
            for each in views[f"{container.id}.image.{number}"]:
                try:
                    if owners is not None:
                        mounter.mount_mapped(each, base, owners)
                    else:
                        mounter.mount(each, base)
                except OSError as error:
                    raise ImageMountError(f"cannot mount image {mount.source}: {error.strerror}") from error
        if mount.subpath:
            paths.parts.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                mounter.attach(base, mount.subpath, paths.parts / f"{number}{_PART}")
            except (FileNotFoundError, NotADirectoryError) as error:
                path = posixpath.join(base, mount.subpath)
                why = (error.strerror or "").lower()
                raise NotFoundError(f"cannot access path {path}: lstat {path}: {why}") from error
            except OSError as error:
                raise StartError(f"cannot mount {mount.subpath} of {mount.source}: {error.strerror}") from error
    parts = _parts(container, paths)
    for number, mapping in mapped_owners(container).items():
        point = container.mounts[number]
        source = parts.get(point.target, point.source)
        try:
            mounter.attach_mapped(Path(source), paths.parts / f"{number}{_MAPPED}", mapping)
        except OSError as error:
            raise StartError(f"cannot mount {source} with its owners mapped: {error.strerror}") from error


def images_in_part(container: Container) -> Mapping[str, Mount]:
    """Return those of ``image_views`` of which a part is mounted."""
    return {key: mount for key, mount in image_views(container.id, container.spec).items() if mount.subpath}


def check_parts(
    container: Container, views: Mapping[str, tuple[SnapshotMount, ...]], mounter: Mounter, paths: ContainerPaths
) -> None:
    """See that parts of images are there; ``views`` has the mounts of each key of ``images_in_part``. Blocks.

    What is mounted for it is in the container's bundle, and left for ``unmount_bundle``.

    Raises:
        ImageMountError: a part is not there, or a link leads out of the image; or the image cannot be mounted.
    """
    for number, (key, mount) in enumerate(images_in_part(container).items()):
        place = paths.parts / str(number)
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            for each in views[key]:
                mounter.mount(each, place)
        except OSError as error:
            raise ImageMountError(f"cannot mount image {mount.source}: {error.strerror}") from error
        try:
            mounter.check_part(place, mount.subpath)
        except OSError as error:
            why = _WHY.get(error.errno or 0, error.strerror)
            raise ImageMountError(f"cannot mount {mount.subpath!r} of image {mount.source}: {why}") from error


def unmount_bundle(mounter: Mounter, places: ContainerPaths) -> None:
    """Unmount everything in a container's bundle, and remove the places. Blocks, and is safe to repeat.

    Raises:
        OSError: something is still mounted, which must not be emptied.
    """
    bundle, parts = places.bundle, places.parts
    entries = sorted(parts.iterdir(), reverse=True) if parts.is_dir() else []
    shown = places.shown_root
    for place in (shown, shown.parent, *entries, parts, bundle / "rootfs", bundle / "shm", places.users):
        if place not in (parts, shown.parent):
            mounter.unmount(place)
        with contextlib.suppress(FileNotFoundError):
            if place.is_dir():
                place.rmdir()
            else:
                place.unlink()
