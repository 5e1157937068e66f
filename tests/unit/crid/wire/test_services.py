"""A servicer that is put together has every method of its service."""

from typing import Any

import pytest
from google.protobuf.message import Message

from crid.wire.services import Context, image_service
from sampan.api.cri.v1 import image_pb2 as pb
from sampan.errors import UnimplementedError


class Listing:
    """Has one method."""

    async def ListImages(self, request: Message, context: Context) -> pb.ListImagesResponse:
        return pb.ListImagesResponse(images=[pb.Image(id="here")])


class Misnamed:
    """Has a method that nobody would call."""

    async def ListImage(self) -> None:
        return None


SERVED: Any = image_service(Listing())


async def test_a_method_is_that_of_the_part_which_has_it(context: Context) -> None:
    answer = await SERVED.ListImages(pb.ListImagesRequest(), context)
    assert [image.id for image in answer.images] == ["here"]


async def test_a_method_that_no_part_has_is_refused_by_name(context: Context) -> None:
    with pytest.raises(UnimplementedError, match=r"^PullImage is not implemented"):
        await SERVED.PullImage(pb.PullImageRequest(), context)
    with pytest.raises(UnimplementedError, match=r"^StreamImages is not implemented"):
        [each async for each in SERVED.StreamImages(pb.StreamImagesRequest(), context)]


@pytest.mark.parametrize("parts", [[Listing(), Listing()], [Misnamed()]])
def test_two_parts_with_one_method_and_methods_of_no_service_are_mistakes(parts: list[object]) -> None:
    with pytest.raises(TypeError, match=r"ListImages?"):
        image_service(*parts)
