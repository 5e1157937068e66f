"""Images of the engine, as kubelet manages them: the same that docker's users have, by their whole names.

Nothing is kept here. An image that a container is made of, a pod's or anybody's, is not removed.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Protocol

from crid.images.model import Auth, FilesystemUse, ImageDescription, PodImage
from sampan.disk import IMAGE, Disk
from sampan.engine import remove, transfer
from sampan.engine.df import Sizes, sizes
from sampan.engine.parts import HasContainers, HasEvents, HasImages, HasLayers
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, RemoteError
from sampan.json_types import JsonObject
from sampan.log import log
from sampan.oci.chain import chain_ids
from sampan.oci.reference import parse_reference
from sampan.resource.image import ImageDetails
from sampan.resource.listing import ALL_OF_EVERYONE

# Kubernetes' cri-api, pkg/errors: an answer that begins with it is shown as the reason that a pod waits for.
_REGISTRY: Final = "RegistryUnavailable"


class Engine(HasImages, HasLayers, HasContainers, HasEvents, Protocol):
    """What of an engine images need."""

    @property
    def content_disk(self) -> Disk:
        """Blobs on disk."""


class PodImages:
    """Images of one engine."""

    def __init__(
        self, engine: Engine, pinned: Sequence[str], directory: Path, now_ns: Callable[[], int] = time.time_ns
    ) -> None:
        """``pinned`` are names, with ``*`` for anything; ``directory`` is where layers are."""
        self._engine = engine
        self._pinned = tuple(map(_whole, pinned))
        self._directory = directory
        self._now_ns = now_ns

    async def all(self, name: str = "") -> list[PodImage]:
        """Return all images, newest first, or the one that ``name`` means, if it is here."""
        found = [await self._get(name)] if name else await self._engine.images.list()
        known = await sizes(self._engine.layers)
        return [self._view(image, known) for image in found if image is not None]

    async def get(self, name: str) -> PodImage | None:
        """Return an image by a name of its, its ID or the beginning of that; None if it is not here.

        Raises:
            InvalidArgumentError: no name at all.
        """
        found = await self.all(_said(name))
        return found[0] if found else None

    async def describe(self, name: str) -> ImageDescription | None:
        """Return an image with what it says of itself. Raises as ``get``."""
        image = await self._get(_said(name))
        if image is None:
            return None
        known = await sizes(self._engine.layers)
        return ImageDescription(self._view(image, known), _info(image))

    async def pull(self, name: str, auth: Auth) -> str:
        """Bring an image here and return its ID; cancelled, nothing is left of it.

        Raises:
            InvalidArgumentError: a bad name, or credentials that make no sense.
            NotFoundError: the registry does not have it.
            UnauthenticatedError, PermissionDeniedError: the registry refuses the credentials.
            RemoteError: the registry does not answer, or answers nonsense; kubelet's word for that comes first.
            ResourceExhaustedError: the disk is full.
        """
        reference = parse_reference(_said(name)).with_default_tag()
        credentials = auth.credentials(reference)
        if credentials is None and auth.server_address:
            log.info("credentials are another registry's", image=str(reference), registry=auth.server_address)
        try:
            async with aclosing(transfer.pull(self._engine, str(reference), "", credentials)) as steps:
                async for _ in steps:
                    pass
        except RemoteError as error:
            raise RemoteError(f"{_REGISTRY}: {error}") from error
        return str((await self._engine.images.get(str(reference))).id)

    async def remove(self, name: str) -> None:
        """Remove an image: by its ID with all its names, by a name that one alone, and the image with its last.

        One that is not here is no error.

        Raises:
            InvalidArgumentError: no name at all.
            ConflictError: a container is made of it.
        """
        image = await self._get(_said(name))
        if image is None:
            return
        names = _names(image)
        if len(names) > 1 and not _means_a_name(name, image):
            await self._refuse_used(image)
            for each in names[:-1]:
                await self._untag(each)
            name = names[-1]
        await self._untag(name)

    async def _untag(self, name: str) -> None:
        try:
            await remove.remove(self._engine, name, force=False, no_prune=False)
        except NotFoundError:
            return  # it was asked for twice

    async def _refuse_used(self, image: ImageDetails) -> None:
        """Refuse before the first name is gone; imaged refuses the last one again, in its transaction."""
        for use in remove.image_uses(await self._engine.containers.list(ALL_OF_EVERYONE)):
            if use.image == image.id:
                raise ConflictError(f"image {image.id.short} is used by container {use.container[:12]}")

    async def uses(self) -> tuple[FilesystemUse, FilesystemUse]:
        """Return what images take on disk, packed and unpacked, and what containers have written."""
        images, rows, blobs = await asyncio.gather(
            self._engine.images.list(brief=True), self._engine.layers.usages(), self._blobs()
        )
        needed = {layer.diff_id for image in images for layer in image.layers}
        layers = {row.diff_id: row.usage for row in rows if row.diff_id in needed}
        written = [row.usage for row in rows if row.diff_id is None]
        now = self._now_ns()
        return (
            FilesystemUse(
                self._directory,
                sum(blobs) + sum(each.size_bytes for each in layers.values()),
                len(blobs) + sum(each.inodes for each in layers.values()),
                now,
            ),
            FilesystemUse(
                self._directory, sum(each.size_bytes for each in written), sum(each.inodes for each in written), now
            ),
        )

    async def _blobs(self) -> list[int]:
        async with aclosing(self._engine.content_disk.objects()) as pages:
            return [one.size_bytes async for page in pages for one in page if one.owner == IMAGE]

    async def _get(self, name: str) -> ImageDetails | None:
        try:
            return await self._engine.images.get(name)
        except (NotFoundError, InvalidArgumentError):  # what cannot be a name is none's
            return None

    def _view(self, image: ImageDetails, known: Sizes) -> PodImage:
        tags, digests = (tuple(map(_whole, names)) for names in (image.repo_tags, image.repo_digests))
        uid, username = _user(image.config.user)
        names = (*tags, *digests, str(image.id))
        pinned = any(fnmatchcase(name, pattern) for pattern in self._pinned for name in names)
        # kubelet takes an image without a size for one that is damaged.
        return PodImage(str(image.id), tags, digests, max(1, known.of(image)), uid, username, pinned)


def _said(name: str) -> str:
    if not name:
        raise InvalidArgumentError("image.image is empty: it names the image")
    return name


def _whole(name: str) -> str:
    """Return a familiar name with its registry; a pattern keeps its stars."""
    if "*" in name:
        return name
    try:
        return str(parse_reference(name).with_default_tag())
    except InvalidArgumentError:
        return name  # an ID


def _names(image: ImageDetails) -> tuple[str, ...]:
    """Return names whose removal removes the image: a repository's digests go with its last tag."""
    tagged = {parse_reference(tag).name for tag in image.repo_tags}
    return (
        *image.repo_tags,
        *(digest for digest in image.repo_digests if parse_reference(digest).name not in tagged),
    )


def _means_a_name(text: str, image: ImageDetails) -> bool:
    return _whole(text) in {*map(_whole, image.repo_tags), *map(_whole, image.repo_digests)}


def _user(text: str) -> tuple[int | None, str]:
    """Return who an image's processes are: a number or a name; neither, if it says nothing."""
    user = text.partition(":")[0]
    if user.isascii() and user.isdecimal():
        return int(user), ""
    return None, user


def _info(image: ImageDetails) -> JsonObject:
    """Return what an image says of itself, as containerd's users know it."""
    run, chain = image.config, chain_ids(layer.diff_id for layer in image.layers)
    return {
        "chainID": chain[-1] if chain else "",
        "imageSpec": {
            "architecture": image.platform.architecture,
            "os": image.platform.os,
            "config": {
                "User": run.user,
                "Env": list(run.env),
                "Entrypoint": list(run.entrypoint),
                "Cmd": list(run.cmd),
                "WorkingDir": run.working_dir,
                "Labels": dict(run.labels),
                "ExposedPorts": {port: {} for port in run.exposed_ports},
                "Volumes": {volume: {} for volume in run.volumes},
                "StopSignal": run.stop_signal,
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in image.layers]},
        },
        "manifest": image.manifest.digest,
        "contentBytes": image.content_bytes,
    }
