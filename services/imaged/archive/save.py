"""Images as a tar archive that is two things at once: a docker-archive, and an OCI image layout.

Blobs go out as they are stored, compressed or not, so that manifests keep their digests; both formats allow that.
What says what is in the archive comes first, so that a reader that cannot seek knows what it needs.

Reference: OCI image spec 1.1, "Image Layout"; Docker image spec 1.2, "Combined Image JSON +
Filesystem Changeset Format".
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from imaged.content.blobs import ContentStore
from imaged.content.leases import Leases
from imaged.images.index import Member
from imaged.images.model import ImageRecord
from imaged.images.names import Images
from imaged.push.plan import whole
from sampan.errors import DataLossError, InvalidArgumentError, NotFoundError
from sampan.json_types import JsonObject
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.oci.reference import Reference, parse_reference
from sampan.tar.buffer import TarBuffer

# Where containerd and Docker look for an image's whole name in an index.
NAME_ANNOTATION: Final = "io.containerd.image.name"
REF_ANNOTATION: Final = "org.opencontainers.image.ref.name"

_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"


@dataclass(frozen=True, slots=True)
class _Saved:
    """What a name or several point to, and what of it goes into the archive."""

    target: Descriptor
    indexes: tuple[Descriptor, ...]
    members: tuple[Member, ...]
    shown: Member  # the image of it that a docker-archive has
    names: tuple[Reference, ...]


class Saver:
    """Writes archives."""

    def __init__(self, images: Images, content: ContentStore, leases: Leases) -> None:
        self._images = images
        self._content = content
        self._leases = leases

    async def archive(self, wanted: Sequence[str], platforms: Sequence[Platform] = ()) -> AsyncGenerator[bytes, None]:
        """Yield the archive of the images that ``wanted`` names, in pieces.

        A name goes into the archive with its image, an ID goes without; a repository without a tag means all its tags.
        An index goes with everything in it that is here or, with several platforms, with what it has of those; of one
        platform that one's manifest goes without it.
        Nothing that is being written can be removed meanwhile. Each blob is verified while it is read.

        Raises:
            NotFoundError: no such image, or it has nothing for one of the platforms; before the first piece.
            DataLossError: a blob is damaged.
        """
        if not wanted:
            raise InvalidArgumentError("no image is named")
        lease = await self._leases.begin()
        try:
            saved = await self._choose(wanted, platforms)
            blobs = _blobs(saved)
            here = await self._leases.hold(lease, [blob.digest for blob in blobs])
            for blob in blobs:
                if here.get(blob.digest) != blob.size:
                    raise DataLossError(f"content {blob.digest} is not here in full: pull its image again")
            tar = TarBuffer()
            for name, document in _documents(saved):
                tar.file(name, document)
            tar.directory("blobs")
            tar.directory("blobs/sha256")
            for blob in blobs:
                tar.begin(f"blobs/sha256/{blob.digest.hex}", blob.size)
                async for piece in self._verified(blob.digest):
                    tar.data(piece)
                    yield tar.take()
            tar.close()
            yield tar.take()
        finally:
            await self._leases.let_go(lease)

    async def _verified(self, digest: Digest) -> AsyncGenerator[bytes, None]:
        found = hashlib.sha256()
        async for piece in self._content.read(digest):
            await asyncio.to_thread(found.update, piece)
            yield piece
        if found.hexdigest() != digest.hex:
            raise DataLossError(f"content {digest} is damaged: its digest is sha256:{found.hexdigest()}")

    async def _choose(self, wanted: Sequence[str], platforms: Sequence[Platform]) -> list[_Saved]:
        chosen: dict[Digest, _Saved] = {}
        for text in wanted:
            for record, name in await self._find(text):
                saved = await self._saved(record, name, platforms)
                before = chosen[saved.target.digest].names if saved.target.digest in chosen else ()
                names = tuple(dict.fromkeys((*before, *saved.names)))
                chosen[saved.target.digest] = replace(saved, names=names)
        return list(chosen.values())

    async def _saved(self, record: ImageRecord, name: Reference | None, platforms: Sequence[Platform]) -> _Saved:
        target = (await self._images.named(name) if name else None) or record.target
        tree = await self._images.tree(target)
        names = (name,) if name else ()
        members = [each for each in tree.members if each.available] if not platforms else []
        for platform in platforms:
            config = (await self._images.get(record.id)).config
            fits = not tree.indexes and platform.accepts(config.platform)
            found = list(tree.members) if fits else tree.of_platform(platform)
            if not found:
                raise NotFoundError(f"no suitable export target found for platform {platform}")
            members += [each for each in await whole(self._content, found[:1]) if each not in members]
        if len(platforms) == 1:
            return _Saved(members[0].descriptor, (), tuple(members), members[0], names)
        of_image = [each for each in tree.members if each.descriptor.digest == record.manifest.digest]
        if platforms:
            of_image = [each for each in of_image if each in members] or members
            chosen = {each.descriptor.digest for each in members}
            members += [each for each in tree.members if each.available and each.attested in chosen]
        (shown,) = await whole(self._content, (of_image or list(tree.members))[:1])
        return _Saved(target, tree.indexes, tuple(members), shown, names)

    async def _find(self, text: str) -> list[tuple[ImageRecord, Reference | None]]:
        reference = _as_reference(text)
        if reference is not None and reference.tag is None and reference.digest is None:
            found: list[tuple[ImageRecord, Reference | None]] = []
            for image in await self._images.list():
                tags = [n for n in image.record.names if n.digest is None and n.name == reference.name]
                found += [(image.record, tag) for tag in tags]
            if found:
                return found
        record = (await self._images.get(text)).record
        # An ID can be read as a name, too.
        if reference is not None and reference.digest is None and reference in record.names:
            return [(record, reference)]
        return [(record, None)]


def _as_reference(text: str) -> Reference | None:
    try:
        return parse_reference(text)
    except InvalidArgumentError:
        return None


def _blobs(saved: Iterable[_Saved]) -> list[Descriptor]:
    """Return what has to be written, each once: documents before layers."""
    small: dict[Digest, Descriptor] = {}
    large: dict[Digest, Descriptor] = {}
    for one in saved:
        small |= {index.digest: index for index in one.indexes}
        for member in one.members:
            manifest, config, *layers = member.blobs
            small |= {manifest.digest: manifest, config.digest: config}
            large |= {layer.digest: layer for layer in layers}
    return [*small.values(), *(blob for digest, blob in large.items() if digest not in small)]


def _documents(saved: Sequence[_Saved]) -> list[tuple[str, bytes]]:
    index = {
        "schemaVersion": 2,
        "mediaType": _INDEX_TYPE,
        "manifests": [entry for one in saved for entry in _index_entries(one)],
    }
    manifest = []
    for one in saved:
        _, config, *layers = one.shown.blobs
        manifest.append(
            {
                "Config": f"blobs/sha256/{config.digest.hex}",
                "RepoTags": [name.familiar for name in one.names] or None,
                "Layers": [f"blobs/sha256/{layer.digest.hex}" for layer in layers],
            }
        )
    return [
        ("oci-layout", _dump({"imageLayoutVersion": "1.0.0"})),
        ("index.json", _dump(index)),
        ("manifest.json", _dump(manifest)),
        *_repositories(saved),
    ]


def _repositories(saved: Sequence[_Saved]) -> list[tuple[str, bytes]]:
    """Return the names as the first version of a docker-archive has them: by repository and tag, the topmost layer."""
    repositories: dict[str, dict[str, str]] = {}
    for one in saved:
        _, _, *layers = one.shown.blobs
        for name in one.names if layers else ():
            repository, _, tag = name.familiar.rpartition(":")
            repositories.setdefault(repository, {})[tag] = layers[-1].digest.hex
    return [("repositories", _dump(repositories))] if repositories else []


def _index_entries(one: _Saved) -> list[JsonObject]:
    entry = {"mediaType": one.target.media_type, "digest": one.target.digest, "size": one.target.size}
    if not one.names:
        return [entry]
    return [{**entry, "annotations": {NAME_ANNOTATION: str(name), REF_ANNOTATION: name.tag}} for name in one.names]


def _dump(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
