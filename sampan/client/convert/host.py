"""What the host can do."""

from typing import Final

from sampan.api.runtime.v1 import host_pb2
from sampan.client.convert.codec import Codec
from sampan.resource.host import HostInfo, OciRuntimeInfo

HOST: Final = Codec(
    HostInfo, host_pb2.HostInfoResponse, nested=(Codec(OciRuntimeInfo, host_pb2.HostInfoResponse.Runtime),)
)
