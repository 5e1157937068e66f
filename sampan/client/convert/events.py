"""Events."""

from typing import Final

from sampan.api.runtime.v1 import events_pb2
from sampan.client.convert.codec import Codec
from sampan.resource.event import Event

EVENT: Final = Codec(Event, events_pb2.Event)
