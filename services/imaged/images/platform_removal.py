"""Take one platform out of an index: what is here of it goes, and the others stay under their names."""

from collections.abc import Collection
from typing import Final

from imaged.images.index import Member, Tree
from imaged.images.model import Image, Removed
from imaged.images.names import Images
from imaged.images.removal import in_the_way
from sampan.errors import NotFoundError
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource.image import ImageUse

_NO_LEASE: Final = ""


async def remove_platform(
    images: Images, image: str, platform: Platform, *, force: bool, in_use: Collection[ImageUse]
) -> Removed:
    """Remove what is here of an image for one platform; if that is all there is, the name or image as ever.

    Names of an index show another of its platforms then. A removal that is killed is as good as one that has not
    begun: it can be repeated.

    Raises:
        NotFoundError: no such image, or not for this platform.
        ConflictError: a container uses it; see also ``Images.remove``.
    """
    found = await images.get(image)
    tree = await images.tree(found.record.target)
    fitting = tree.of_platform(platform)
    alone = tree.target == found.record.manifest
    if not fitting and not (alone and platform.accepts(found.config.platform)):
        raise NotFoundError(
            f"image with reference {image} was found but does not provide the specified platform ({platform})"
        )
    others = [each for each in tree.members if each.available and each.is_image and each not in fitting[:1]]
    if alone or not others:
        return await images.remove(image, force=force, in_use=in_use)
    if _config(fitting[0]) == found.record.id:
        return await _replace(images, found, tree, others[0], force=force, in_use=in_use)
    if await _is_nameless(images, fitting[0]):
        return await images.remove(_config(fitting[0]), force=force, in_use=in_use)
    _refuse_used(fitting[0], in_use, force=force)
    return await images.give_up(found.record.id, fitting[0])


async def _replace(
    images: Images, image: Image, tree: Tree, other: Member, *, force: bool, in_use: Collection[ImageUse]
) -> Removed:
    """Give the index's names to another platform's image, and remove the one that had them."""
    record = image.record
    for use in in_use:
        if use.image == record.id and (use.running or not force):
            raise in_the_way(record.id, use)
    for reference in record.names:
        named = await images.named(reference)
        if named is not None and named.digest == tree.target.digest:
            await images.create(reference, tree.target, _NO_LEASE, other.platform)
    if not record.names:
        await images.create(None, tree.target, _NO_LEASE, other.platform)
    left = (await images.get(record.id)).record
    if left.names:  # by other manifests
        return Removed()
    return await images.remove(record.id, force=force, in_use=in_use)


def _refuse_used(member: Member, in_use: Collection[ImageUse], *, force: bool) -> None:
    for use in in_use:
        if use.image == _config(member) and (use.running or not force):
            raise in_the_way(Digest(use.image), use)


async def _is_nameless(images: Images, member: Member) -> bool:
    try:
        return not (await images.get(_config(member))).record.names
    except NotFoundError:
        return False


def _config(member: Member) -> str:
    assert member.references  # it is available
    return member.references[0].digest
