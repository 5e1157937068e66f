"""``ImageService``."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import grpc

from crid.images.images import PodImages
from crid.images.model import Auth, FilesystemUse, PodImage
from sampan.api.cri.v1 import config_pb2, security_pb2, stats_pb2
from sampan.api.cri.v1 import image_pb2 as pb
from sampan.client.convert.codec import Codec

Context = grpc.aio.ServicerContext[Any, Any]

_AUTH: Final = Codec(Auth, pb.AuthConfig)

# Images of one answer of a stream; kubelet takes 16 MB at most.
_PER_ANSWER: Final = 200


class ImageServicer:
    """Images of the engine, as pods see them."""

    def __init__(self, images: PodImages) -> None:
        self._images = images

    async def ListImages(self, request: pb.ListImagesRequest, context: Context) -> pb.ListImagesResponse:
        """Return all, or the one that is asked for."""
        return pb.ListImagesResponse(images=await self._found(request.filter))

    async def StreamImages(
        self, request: pb.StreamImagesRequest, context: Context
    ) -> AsyncIterator[pb.StreamImagesResponse]:
        """Yield likewise."""
        found = await self._found(request.filter)
        for start in range(0, len(found), _PER_ANSWER):
            yield pb.StreamImagesResponse(images=found[start : start + _PER_ANSWER])

    async def ImageStatus(self, request: pb.ImageStatusRequest, context: Context) -> pb.ImageStatusResponse:
        """Return one, or nothing."""
        name = request.image.image
        if not request.verbose:
            image = await self._images.get(name)
            return pb.ImageStatusResponse(image=None if image is None else _image(image))
        found = await self._images.describe(name)
        if found is None:
            return pb.ImageStatusResponse()
        return pb.ImageStatusResponse(image=_image(found.image), info={"info": json.dumps(found.info)})

    async def PullImage(self, request: pb.PullImageRequest, context: Context) -> pb.PullImageResponse:
        """Bring one here."""
        return pb.PullImageResponse(image_ref=await self._images.pull(request.image.image, _AUTH.decode(request.auth)))

    async def RemoveImage(self, request: pb.RemoveImageRequest, context: Context) -> pb.RemoveImageResponse:
        """Remove one."""
        await self._images.remove(request.image.image)
        return pb.RemoveImageResponse()

    async def ImageFsInfo(self, request: pb.ImageFsInfoRequest, context: Context) -> pb.ImageFsInfoResponse:
        """Return what images take, and what containers have written."""
        images, containers = await self._images.uses()
        return pb.ImageFsInfoResponse(image_filesystems=[_use(images)], container_filesystems=[_use(containers)])

    async def _found(self, filter: pb.ImageFilter) -> Sequence[pb.Image]:
        return [_image(each) for each in await self._images.all(filter.image.image)]


def _image(image: PodImage) -> pb.Image:
    return pb.Image(
        id=image.id,
        repo_tags=image.repo_tags,
        repo_digests=image.repo_digests,
        size=image.size_bytes,
        uid=None if image.uid is None else security_pb2.Int64Value(value=image.uid),
        username=image.username,
        spec=config_pb2.ImageSpec(image=image.id),
        pinned=image.pinned,
    )


def _use(use: FilesystemUse) -> stats_pb2.FilesystemUsage:
    return stats_pb2.FilesystemUsage(
        timestamp=use.measured_ns,
        fs_id=stats_pb2.FilesystemIdentifier(mountpoint=str(use.directory)),
        used_bytes=stats_pb2.UInt64Value(value=use.used_bytes),
        inodes_used=stats_pb2.UInt64Value(value=use.inodes),
    )
