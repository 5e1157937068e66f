"""Paths in containers."""

from typing import Final

from sampan.api.runtime.v1 import archives_pb2
from sampan.client.convert.codec import Codec
from sampan.resource.archive import PathStat

PATH_STAT: Final = Codec(PathStat, archives_pb2.PathStat)
