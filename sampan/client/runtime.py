"""All that runtimed serves, over one channel."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import grpc

from sampan.client.archives import ArchivesClient
from sampan.client.containers import ContainersClient
from sampan.client.events import EventsClient
from sampan.client.execs import ExecsClient
from sampan.client.host import HostClient
from sampan.client.networks import NetworksClient
from sampan.client.volumes import VolumesClient
from sampan.resource.protocols import Archives, Containers, Events, Execs, Host, Networks, Volumes
from sampan.wire.channel import back


@dataclass(frozen=True, slots=True)
class Runtime:
    """The clients of one runtimed. ``reconnected`` returns when it can be called again after it was gone."""

    containers: Containers
    archives: Archives
    execs: Execs
    events: Events
    networks: Networks
    volumes: Volumes
    host: Host
    reconnected: Callable[[], Awaitable[None]]

    @classmethod
    def over(cls, channel: grpc.aio.Channel) -> "Runtime":
        """Return clients that call over ``channel``."""
        return cls(
            containers=ContainersClient(channel),
            archives=ArchivesClient(channel),
            execs=ExecsClient(channel),
            events=EventsClient(channel),
            networks=NetworksClient(channel),
            volumes=VolumesClient(channel),
            host=HostClient(channel),
            reconnected=partial(back, channel, "runtimed"),
        )
