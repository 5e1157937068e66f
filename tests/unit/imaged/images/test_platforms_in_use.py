"""What an index has for another platform, and is no image of its own, is a container's as any image is."""

from collections.abc import Callable, Coroutine

import pytest

from imaged.images.model import Removed
from imaged.images.platform_removal import remove_platform
from sampan.errors import ConflictError, NotFoundError
from sampan.oci.reference import parse_reference
from sampan.resource.image import ImageUse
from tests.unit.imaged.archives import load
from tests.unit.imaged.images.test_index import AMD64, ARM64, IMAGES, INDEX, both, layout
from tests.unit.imaged.parts import Parts

FOREIGN = IMAGES[ARM64].id
Remove = Callable[[Parts, bool, ImageUse], Coroutine[None, None, Removed]]


async def _name(parts: Parts, force: bool, use: ImageUse) -> Removed:
    return await parts.images.remove("multi:1", force=force, in_use=(use,))


async def _image(parts: Parts, force: bool, use: ImageUse) -> Removed:
    return await parts.images.remove(IMAGES[AMD64].id, force=force, in_use=(use,))


async def _platform(parts: Parts, force: bool, use: ImageUse) -> Removed:
    return await remove_platform(parts.images, "multi:1", ARM64, force=force, in_use=(use,))


async def test_its_whole_id_finds_it(parts: Parts) -> None:
    await load(parts, layout(INDEX, *both()))
    found = await parts.images.get(FOREIGN)
    assert (found.record.id, found.config.platform.architecture) == (FOREIGN, "arm64")
    assert [each.diff_id for each in found.record.layers] == [each.diff_id for each in IMAGES[ARM64].layers]
    await parts.images.remove("multi:1", force=False, in_use=())
    with pytest.raises(NotFoundError, match="No such image"):
        await parts.images.get(FOREIGN)


@pytest.mark.parametrize("remove", [_name, _image, _platform])
async def test_it_stays_while_a_container_is_made_of_it(parts: Parts, remove: Remove) -> None:
    await load(parts, layout(INDEX, *both()))
    for running in (False, True):
        with pytest.raises(ConflictError, match="c0ffee"):
            await remove(parts, False, ImageUse(FOREIGN, "c0ffee", running))
    assert (await parts.images.get(FOREIGN)).record.id == FOREIGN
    assert (await remove(parts, True, ImageUse(FOREIGN, "c0ffee", running=False))).changes


async def test_a_prune_lets_it_stay(parts: Parts) -> None:
    await load(parts, layout(INDEX, *both()))
    assert (await parts.images.prune(["multi:1"], (ImageUse(FOREIGN, "c0ffee", running=False),))).changes == ()
    assert (await parts.images.prune(["multi:1"], ())).untagged == ("multi:1",)


async def test_names_of_the_image_that_lead_elsewhere_do_not_keep_it(parts: Parts) -> None:
    await load(parts, layout(INDEX, *both()))
    own = await parts.images.get("multi:1")
    await parts.images.create(parse_reference("other:1"), own.record.manifest, "", None)
    use = (ImageUse(FOREIGN, "c0ffee", running=False),)
    with pytest.raises(ConflictError, match="c0ffee"):
        await parts.images.remove("multi:1", force=False, in_use=use)
    assert (await parts.images.remove("other:1", force=False, in_use=use)).changes
    await parts.images.tag("multi:1", parse_reference("also:1"))
    assert (await parts.images.remove("multi:1", force=False, in_use=use)).changes
    assert (await parts.images.get(FOREIGN)).record.id == FOREIGN
