"""Image names: give them, find them, take them away."""

import asyncio
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from imaged.content import store as rows
from imaged.content.blobs import ContentStore
from imaged.content.disk_full import storing
from imaged.gc.roots import familiar, roots
from imaged.images import deferred
from imaged.images import store as image_store
from imaged.images.index import Member, Tree, claims, describe, survey
from imaged.images.model import Created, Image, ImageRecord, Removed
from imaged.images.remover import Remover, Request
from imaged.images.store import existing, find
from imaged.registry.client import MAX_MANIFEST_BYTES
from imaged.transfer.pull import pair_layers
from sampan.disk import Root
from sampan.errors import InvalidArgumentError, NotFoundError, RemoteError, SampanError
from sampan.log import log
from sampan.oci.config_document import check_sizes, parse_config
from sampan.oci.descriptor import INDEXES, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import ConfigFile, RunConfig
from sampan.oci.manifest import MAX_CONFIG_BYTES, Manifest, choose, parse_document
from sampan.oci.platform import Platform, host_platform
from sampan.oci.reference import Reference
from sampan.resource.image import ImageUse
from sampan.store.database import Store

# Parsed configs kept in memory: as many as a busy machine has images, each a few kilobytes.
_CACHED_CONFIGS: Final = 512
_LARGEST_CACHED_BYTES: Final = 64 << 10

# Shown for an image whose config is damaged, so that it can be seen and removed.
_DAMAGED: Final = ConfigFile(Platform("", ""), (), None, RunConfig(), comment="config is damaged: pull it again")


class Images:
    """The images of one engine."""

    def __init__(self, store: Store, content: ContentStore, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._store = store
        self._content = content
        self._now_ns = now_ns
        self._configs: OrderedDict[Digest, ConfigFile] = OrderedDict()
        self._listed: Sequence[Image] = []
        self._listed_at = -1
        self._remover = Remover(store, content)

    async def create(
        self,
        reference: Reference | None,
        target: Descriptor,
        lease: str,
        platform: Platform | None,
        parent: Digest | None = None,
        deferred_layers: Collection[Digest] = (),
    ) -> Created:
        """Make an image of content that is here, name it, and end the lease.

        A name that points elsewhere is moved; without one the image is dangling. If the lease's content was fetched
        from the name's repository, ``name@digest`` is a name of it too. ``parent`` is the image that it was committed
        from. Of ``deferred_layers``, diff IDs, there need be no blobs: see ``deferred``. Safe to repeat after a lost
        reply.

        Raises:
            NotFoundError: part of the content is not here.
            RemoteError: the target is no image.
            DataLossError: content on disk is damaged.
        """
        manifest_descriptor, manifest = await self._manifest(target, platform or host_platform())
        config = await self._config(manifest.config.digest, manifest.config.size)
        check_sizes(config.run, f"config {manifest.config.digest}")
        layers = pair_layers(manifest, config)
        own = (target, manifest_descriptor, manifest.config)
        tree = await survey(self._store, self._content, target) if target.media_type in INDEXES else None
        record = ImageRecord(
            id=manifest.config.digest,
            target=target,
            manifest=manifest_descriptor,
            layers=layers,
            content_bytes=manifest_descriptor.size
            + manifest.config.size
            + sum({layer.descriptor.digest: layer.descriptor.size for layer in layers}.values()),
            tagged_ns=0,
            names=(),
        )
        blobs = [descriptor.digest for descriptor in (*own, *manifest.layers)]

        before: str | None = None
        loser: Digest | None = None

        def name(db: sqlite3.Connection) -> list[str]:
            nonlocal record, before, loser
            deferred.record(db, layers, deferred_layers, self._now_ns())
            wanted = [*blobs, *(claims(db, tree) if tree else ())]
            image_store.upsert_image(db, record, wanted)
            if parent not in (None, record.id):
                image_store.set_parent(db, record.id, parent)
            if reference is not None:
                loser = image_store.find_name(db, reference.with_default_tag())
                before = self._name(db, reference, target.digest, record.id, rows.lease_source(db, lease))
            left = image_store.leave_targets(db, record.id, target.digest, wanted)
            record = existing(db, record.id)
            source = rows.lease_source(db, lease)
            leases = [lease, *(rows.abandoned_leases(db, source) if source else ())]
            return [*left, *rows.delete_leases(db, leases)]

        await self._content.drop_unused(name)
        await self._settle(loser if loser != record.id else None)
        return Created(
            Image(record, config), moved=before not in (None, target.digest), existed=before == target.digest
        )

    def _name(
        self, db: sqlite3.Connection, reference: Reference, target: Digest, image: Digest, source: str | None
    ) -> str | None:
        now_ns = self._now_ns()
        canonical = Reference(reference.registry, reference.repository, digest=target)
        if reference.digest is not None:
            if reference.digest != target:
                raise InvalidArgumentError(f"{reference.familiar} cannot name {target}")
            return image_store.set_name(db, canonical, target, image, now_ns)
        before = image_store.set_name(db, reference.with_default_tag(), target, image, now_ns)
        if source == reference.name:
            image_store.set_name(db, canonical, target, image, now_ns)
        return before

    async def _manifest(self, target: Descriptor, platform: Platform) -> tuple[Descriptor, Manifest]:
        descriptor = target
        while True:
            data = await self._content.load(descriptor.digest, MAX_MANIFEST_BYTES)
            parsed = parse_document(data, descriptor.media_type, f"content {descriptor.digest}")
            if isinstance(parsed, Manifest):
                return replace(descriptor, size=len(data)), parsed
            # An index that leads to itself would need to hold its own digest.
            descriptor = choose(parsed, platform)

    async def get(self, image: str) -> Image:
        """Find an image by ID, unambiguous prefix of one, name, or name@digest.

        Raises:
            NotFoundError: in Docker's words.
            InvalidArgumentError: neither an ID nor a name.
        """
        try:
            record, _ = await self._store.read(lambda db: find(db, image))
        except NotFoundError:
            if beneath := await self._beneath(image):
                return beneath
            raise
        return Image(record, await self._config(record.id, 0))

    async def _beneath(self, config: str) -> Image | None:
        """Find what an index has for another platform, by its whole ID: containers are made of it, too."""
        for record in await self._store.read(lambda db: image_store.claimants(db, config)):
            for member in (await self.tree(record.target)).members:
                if member.available and member.is_image and member.blobs[1].digest == config:
                    return await self._of_member(record, member)
        return None

    async def _of_member(self, record: ImageRecord, member: Member) -> Image:
        """Return what the index that ``record`` stands for has, under its names, and is no image of its own."""
        manifest, described, *layers = member.blobs
        config = await self._config(described.digest, described.size)
        record = replace(
            record,
            id=described.digest,
            manifest=manifest,
            layers=pair_layers(Manifest(described, tuple(layers)), config),
            content_bytes=member.here_bytes,
            parent=None,
            deferred=(),
        )
        return Image(record, config)

    async def of_platform(self, image: str, platform: Platform) -> Image:
        """Find an image as ``get`` does, and return it or, if it is for another platform, what its index has for this.

        Of what is here under that index alone, and is no image of its own, the names are the index's.

        Raises:
            NotFoundError: in Docker's words, no such image, or nothing of it is here for ``platform``.
        """
        found = await self.get(image)
        if platform.accepts(found.config.platform):
            return found
        for member in (await self.tree(found.record.target)).of_platform(platform):
            own = await self._store.read(partial(image_store.get_image, image=member.blobs[1].digest))
            return Image(own, await self._config(own.id, 0)) if own else await self._of_member(found.record, member)
        raise NotFoundError(
            f"image with reference {image} was found but does not provide the specified platform ({platform})"
        )

    async def tree(self, target: Descriptor) -> Tree:
        """Return what a manifest or an index leads to, and how much of it is here."""
        return await survey(self._store, self._content, target)

    async def named(self, reference: Reference) -> Descriptor | None:
        """Return what a tag points to, None if there is no such tag."""

        def find(db: sqlite3.Connection) -> tuple[Digest, ImageRecord] | None:
            row = db.execute("SELECT image, digest FROM names WHERE reference = ?", (str(reference),)).fetchone()
            return None if row is None else (Digest(row["digest"]), existing(db, Digest(row["image"])))

        found = await self._store.read(find)
        if found is None:
            return None
        digest, record = found
        # One image may have come by several manifests; its record knows the last.
        return record.target if record.target.digest == digest else await describe(self._content, digest)

    async def list(self) -> Sequence[Image]:
        """Return all images, newest first; the same sequence as long as nothing has changed, if there are not too many.

        Whoever shows disk use or lists of images asks for all of them each time.
        """
        version, records = await self._store.read(self._records)
        if records is None:
            return self._listed
        missing = [record.id for record in records if record.id not in self._configs]
        fresh = await asyncio.to_thread(self._load_all, missing) if missing else {}
        known = {**self._configs, **{digest: config for digest, (config, _) in fresh.items()}}
        for digest, (config, size) in fresh.items():
            self._remember(digest, config, size)
        images = [Image(record, known[record.id]) for record in records]
        images.sort(key=lambda image: (image.config.created_ns or 0, image.record.id), reverse=True)
        if len(images) <= _CACHED_CONFIGS and not any(image.config is _DAMAGED for image in images):
            self._listed, self._listed_at = images, version
        return images

    def _records(self, db: sqlite3.Connection) -> tuple[int, Sequence[ImageRecord] | None]:
        """Return how many rows this connection, which is the only one, has changed, and all images if that is news."""
        version = db.total_changes
        return version, None if version == self._listed_at else image_store.list_images(db)

    async def tag(self, image: str, reference: Reference) -> None:
        """Add a name to an image, taking it from another one if need be.

        Raises:
            NotFoundError: no such image.
            InvalidArgumentError: the name holds a digest.
        """
        if reference.digest is not None:
            raise InvalidArgumentError("refusing to create a tag with a digest reference")
        if reference.familiar_name == "sha256":
            raise InvalidArgumentError("refusing to create an ambiguous tag using digest algorithm as name")

        def name(db: sqlite3.Connection) -> Digest | None:
            record, found_by = find(db, image)
            loser = image_store.find_name(db, reference.with_default_tag())
            # An image can have come by several manifests: a name is one more of what the other name points to.
            target = image_store.target_of(db, found_by) if found_by else record.target.digest
            image_store.set_name(db, reference.with_default_tag(), target, record.id, self._now_ns())
            return loser

        with storing("name"):
            loser = await self._store.write(name)
        await self._settle(loser)

    async def _settle(self, loser: Digest | None) -> None:
        """Have an image give up what only a name led to that leads elsewhere now."""
        if loser is not None:
            await self._remover.remove(Request((), {}, unnamed=(loser,)))

    async def remove(self, image: str, *, force: bool, in_use: Collection[ImageUse], no_prune: bool = False) -> Removed:
        """Take away a name, or an image with all of them; see ``plan_removal``.

        With an image go the images that it was committed from, as far as nothing else names, uses or continues them;
        ``no_prune`` leaves them, and so does ``force``, which says nothing of them. Names that it took away bear the
        image's labels, which whoever tells of it could not ask for any more.

        Raises:
            NotFoundError: no such image.
            ConflictError: it is in use, has names in several repositories, or others were committed from it.
        """
        labels = await self._labels(image)
        removed = await self._remove(Request((image,), _by_image(in_use), force=force, no_prune=no_prune))
        changes = (
            replace(each, labels=labels.get(each.image, {})) if each.untagged else each for each in removed.changes
        )
        return replace(removed, changes=tuple(changes))

    async def _labels(self, image: str) -> dict[Digest, Mapping[str, str]]:
        """Return an image's labels by its ID; none of one that cannot be read, which can be removed all the same."""
        try:
            found = await self.get(image)
        except (SampanError, OSError):
            return {}
        return {found.record.id: found.config.run.labels}

    async def prune(self, images: Sequence[str], in_use: Collection[ImageUse]) -> Removed:
        """Take away many, each as ``remove`` does, in one transaction; what that would refuse stays."""
        return await self._remove(Request(images, _by_image(in_use), lenient=True))

    async def give_up(self, image: Digest, member: Member) -> Removed:
        """Have an image no longer claim a platform of its index that is here and that no image stands for."""
        config = member.references[0].digest if member.references else member.descriptor.digest
        return await self._remove(Request((), {}, unnamed=(image,), abandoned={config: member.descriptor.digest}))

    async def _remove(self, request: Request) -> Removed:
        removed = await self._remover.remove(request)
        for record in removed.deleted:
            self._configs.pop(record.id, None)
        return removed

    async def roots(self) -> tuple[Root, ...]:
        """Return what must stay unpacked: the layers of images, and those that leases hold for images to come."""
        found = await self._store.read(roots)
        return tuple(replace(root, holder=familiar(root.holder)) for root in found)

    async def _config(self, digest: Digest, size: int) -> ConfigFile:
        """Return a config; one of ``size`` bytes, if that is not 0."""
        cached = self._configs.get(digest)
        if cached is not None:
            self._configs.move_to_end(digest)
            return cached
        data = await self._content.load(digest, MAX_CONFIG_BYTES)
        if size and len(data) != size:
            raise RemoteError(f"config {digest} has {len(data)} bytes, its manifest says {size}")
        config = await asyncio.to_thread(parse_config, data, f"config {digest}")
        self._remember(digest, config, len(data))
        return config

    def _remember(self, digest: Digest, config: ConfigFile, size: int) -> None:
        if 0 < size <= _LARGEST_CACHED_BYTES:
            self._configs[digest] = config
            while len(self._configs) > _CACHED_CONFIGS:
                self._configs.popitem(last=False)

    def _load_all(self, digests: Iterable[Digest]) -> dict[Digest, tuple[ConfigFile, int]]:
        """Read configs in one go, with their sizes, 0 for a damaged one; blocks."""
        configs = {}
        for digest in digests:
            try:
                data = self._content.load_now(digest)
                configs[digest] = parse_config(data, f"config {digest}"), len(data)
            except SampanError as error:
                log.error("image is damaged", image=digest, error=str(error))
                configs[digest] = _DAMAGED, 0
        return configs


def _by_image(uses: Iterable[ImageUse]) -> dict[str, ImageUse]:
    return {use.image: use for use in uses}
