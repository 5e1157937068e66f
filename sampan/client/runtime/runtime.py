"""All that runtimed serves, over one channel."""

from functools import cached_property
from typing import TYPE_CHECKING

import grpc

from sampan.wire.channel import back

if TYPE_CHECKING:
    from pathlib import Path

    from sampan.resource.protocols import Archives, Containers, Events, Execs, Host, Networks, Steps, Volumes

# Each client, with the values and conversions that it needs, takes milliseconds to import, and a command line uses one
# or two of them.


class Runtime:
    """The clients of one runtimed, each made when it is first asked for."""

    def __init__(self, channel: grpc.aio.Channel, desk: "Path | None" = None, handing: "Path | None" = None) -> None:
        """``desk`` is the socket where it takes descriptors, ``handing`` that where it gives some of output.

        None: it is on another host.
        """
        self._channel = channel
        self._desk = desk
        self._handing = handing

    @cached_property
    def containers(self) -> "Containers":
        """Containers."""
        from sampan.client.runtime.containers import ContainersClient

        return ContainersClient(self._channel, self._handing)

    @cached_property
    def archives(self) -> "Archives":
        """Their files."""
        from sampan.client.runtime.archives import ArchivesClient

        return ArchivesClient(self._channel, self._desk)

    @cached_property
    def execs(self) -> "Execs":
        """Further processes in them."""
        from sampan.client.runtime.execs import ExecsClient

        return ExecsClient(self._channel, self._handing)

    @cached_property
    def steps(self) -> "Steps":
        """Processes of build steps."""
        from sampan.client.runtime.steps import StepsClient

        return StepsClient(self._channel)

    @cached_property
    def events(self) -> "Events":
        """What happened."""
        from sampan.client.runtime.events import EventsClient

        return EventsClient(self._channel)

    @cached_property
    def networks(self) -> "Networks":
        """Networks."""
        from sampan.client.runtime.networks import NetworksClient

        return NetworksClient(self._channel)

    @cached_property
    def volumes(self) -> "Volumes":
        """Volumes."""
        from sampan.client.runtime.volumes import VolumesClient

        return VolumesClient(self._channel)

    @cached_property
    def host(self) -> "Host":
        """What the host can do."""
        from sampan.client.maintenance import HostClient

        return HostClient(self._channel)

    async def reconnected(self) -> None:
        """Return when runtimed can be called again after it was gone. UnavailableError if it does not come back."""
        await back(self._channel, "runtimed")
