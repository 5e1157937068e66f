"""What takes room on disk, and what a pass came to."""

from typing import Final

from sampan.api.disk.v1 import disk_pb2 as pb
from sampan.client.convert.codec import Codec
from sampan.disk import Collected, Freed, Holder, StoredObject

HOLDER: Final = Codec(Holder, pb.Holder)
OBJECT: Final = Codec(StoredObject, pb.StoredObject, nested=(HOLDER,))

_FREED: Final = Codec(Freed, pb.CollectResponse.Freed, ignored=("kind",))


def collected_to_proto(collected: Collected) -> pb.CollectResponse:
    """Encode what a pass came to."""
    freed = []
    for kind, one in sorted(collected.freed.items()):
        freed.append(_FREED.encode(one))
        freed[-1].kind = kind
    return pb.CollectResponse(freed=freed, reclaimed_bytes=collected.reclaimed_bytes, seconds=collected.seconds)


def collected_from_proto(message: pb.CollectResponse) -> Collected:
    """Decode it."""
    return Collected({one.kind: _FREED.decode(one) for one in message.freed}, message.seconds)
