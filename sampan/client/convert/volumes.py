"""Volumes."""

from typing import Final

from sampan.api.runtime.v1 import volumes_pb2
from sampan.client.convert.codec import Codec
from sampan.resource.volume import Volume, VolumeRequest

VOLUME: Final = Codec(Volume, volumes_pb2.Volume, local=("fault",))
REQUEST: Final = Codec(VolumeRequest, volumes_pb2.CreateVolumeRequest)
