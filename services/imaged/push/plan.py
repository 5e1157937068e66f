"""What a push sends: all that the tag points to, or one platform's manifest of it.

As Docker does it with containerd's store: an index goes whole if everything in it is here. Otherwise the manifest of
the image that the tag shows goes in its place, and whoever pushes is told so. A platform that is asked for goes alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from imaged.content.blobs import ContentStore
from imaged.images.index import Member, Tree, survey
from imaged.images.model import ImageRecord
from sampan.errors import DataLossError, NotFoundError, RemoteError
from sampan.oci.config_document import parse_config
from sampan.oci.descriptor import CONFIGS, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import ConfigFile
from sampan.oci.manifest import MAX_CONFIG_BYTES
from sampan.oci.platform import Platform
from sampan.oci.reference import Reference
from sampan.resource.image import Layer
from sampan.store.database import Store


@dataclass(frozen=True, slots=True)
class PushPlan:
    """Blobs in any order, then the documents in theirs; ``target``, the last of them, gets the tag."""

    target: Descriptor
    blobs: tuple[Descriptor, ...]  # configs and layers
    documents: tuple[Descriptor, ...]  # what another one refers to comes before it
    layers: tuple[Layer, ...]  # what is shown of it
    instead_of: Descriptor | None = None  # the index, if not all of it is here


async def plan_push(
    store: Store,
    content: ContentStore,
    record: ImageRecord | None,
    target: Descriptor,
    reference: Reference,
    platform: Platform | None,
) -> PushPlan:
    """Plan a push of ``target``, which ``reference`` names and ``record`` shows, if anything does; all of it is held.

    Raises:
        NotFoundError: in Docker's words, it has nothing for ``platform``.
        DataLossError: part of the image is not here, or damaged.
    """
    tree = await survey(store, content, target)
    if not tree.indexes:
        (member,) = tree.members
        members = await whole(content, [member])
        if platform is not None and not platform.accepts((await _config(content, _config_of(member))).platform):
            raise absent(reference, platform)
        return await _of_members(content, members)
    if platform is not None:
        candidates = tree.of_platform(platform)
        if not candidates:
            raise absent(reference, platform)
        return await _of_members(content, candidates[:1])
    if tree.whole:
        return await _of_members(content, tree.members, tree)
    shown = [member for member in tree.members if record and member.descriptor.digest == record.manifest.digest]
    return await _of_members(content, await whole(content, shown or list(tree.members[:1])), instead_of=target)


def absent(reference: Reference, platform: Platform) -> NotFoundError:
    """Return what to say, in Docker's words, if an image is not here for a platform."""
    return NotFoundError(
        f"image with reference {reference.familiar} was found but does not provide the specified platform ({platform})"
    )


async def whole(content: ContentStore, members: list[Member]) -> list[Member]:
    """Return members that must be here in full. Raises DataLossError, naming what is not."""
    for member in members:
        if member.references is None:
            await content.load(member.descriptor.digest, member.descriptor.size)  # says what is wrong with it
        if member.missing:
            raise DataLossError(f"content {member.missing[0]} is not here any more: pull the image again")
    return members


async def _of_members(
    content: ContentStore, members: Iterable[Member], tree: Tree | None = None, instead_of: Descriptor | None = None
) -> PushPlan:
    blobs: dict[Digest, Descriptor] = {}
    layers: dict[Digest, Layer] = {}
    documents = []
    for member in members:
        documents.append(member.descriptor)
        blobs |= {each.digest: each for each in member.references or ()}
        layers |= {layer.descriptor.digest: layer for layer in await _layers(content, member)}
    if tree is not None:
        documents += reversed(tree.indexes)
    return PushPlan(documents[-1], tuple(blobs.values()), tuple(documents), tuple(layers.values()), instead_of)


def _config_of(member: Member) -> Digest:
    config, *_ = member.references or ()
    return config.digest


async def _layers(content: ContentStore, member: Member) -> list[Layer]:
    """Return a manifest's layers with their diff IDs, which layers are called by; attestations have none."""
    config, *layers = member.references or ()
    diff_ids: tuple[Digest, ...] = ()
    if config.media_type in CONFIGS and member.is_image:
        try:
            diff_ids = (await _config(content, config.digest)).diff_ids
        except RemoteError:
            diff_ids = ()
    names = diff_ids if len(diff_ids) == len(layers) else [layer.digest for layer in layers]
    return [Layer(layer, name) for layer, name in zip(layers, names, strict=True)]


async def _config(content: ContentStore, digest: Digest) -> ConfigFile:
    return parse_config(await content.load(digest, MAX_CONFIG_BYTES), f"config {digest}")
