"""What the OCI's specifications name: descriptors, platforms, layers."""

from functools import lru_cache
from typing import Final

from sampan.api.containerd.types import types_pb2
from sampan.api.image.v1 import images_pb2
from sampan.client.convert.codec import Codec
from sampan.errors import InvalidArgumentError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource.image import Layer

# Images share layers, and lists have each of them many times.
_KNOWN_LAYERS: Final = 4096


class _DescriptorCodec(Codec[Descriptor, types_pb2.Descriptor]):
    def decode(self, message: types_pb2.Descriptor) -> Descriptor:
        """Raises InvalidArgumentError for a bad digest or size."""
        if message.size < 0:
            raise InvalidArgumentError(f"descriptor of {message.digest!r} has the size {message.size}")
        return Descriptor(message.media_type, Digest.parse(message.digest), message.size)


class _LayerCodec(Codec[Layer, images_pb2.LayerContent]):
    def decode(self, message: images_pb2.LayerContent) -> Layer:
        """Raises InvalidArgumentError for a bad digest or size."""
        descriptor = message.descriptor
        return _layer(descriptor.media_type, descriptor.digest, descriptor.size, message.diff_id)


DESCRIPTOR: Final = _DescriptorCodec(Descriptor, types_pb2.Descriptor, ignored=("annotations",))
PLATFORM: Final = Codec(Platform, images_pb2.Platform)
LAYER: Final = _LayerCodec(Layer, images_pb2.LayerContent, nested=(DESCRIPTOR,))


@lru_cache(_KNOWN_LAYERS)
def _layer(media_type: str, digest: str, size: int, diff_id: str) -> Layer:
    if size < 0:
        raise InvalidArgumentError(f"descriptor of {digest!r} has the size {size}")
    return Layer(Descriptor(media_type, Digest.parse(digest), size), Digest.parse(diff_id))


def platform_from_proto(message: images_pb2.Platform) -> Platform | None:
    """Return what a request asks for; None for an empty one."""
    if not (message.os or message.architecture):
        return None
    return Platform(message.os or "linux", message.architecture, message.variant)


def platform_to_proto(platform: Platform | None) -> images_pb2.Platform | None:
    """Return what to ask for; None: nothing in particular."""
    return None if platform is None else PLATFORM.encode(platform)
