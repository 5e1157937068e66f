"""The services that an engine consists of: their clients, each made when it is first asked for.

Each client, with the values and conversions that it needs, takes milliseconds to import, and a command line uses one or
two of them.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Final, Self

import grpc

from sampan.client.runtime.runtime import Runtime
from sampan.layout import Layout
from sampan.services import USED_BY_ENGINE
from sampan.wire.channel import Tell, open_channel, reach

if TYPE_CHECKING:
    from sampan.build.protocols import Builder
    from sampan.check import Check
    from sampan.disk import Disk
    from sampan.resource.protocols import Archives, Containers, Events, Execs, Host, Networks, Volumes
    from sampan.resource.storage.images import Images, Leases
    from sampan.resource.storage.snapshots import Differ, Layers, Snapshots

_BUILDER: Final = "buildd"
_BUILDER_IDLE_S: Final = 10.0  # to whom nobody is connected ends after a while
_PRIVATE_REGISTRY: Final = "registryd"
_REGISTRY_ROWS: Final = "registry.db"


class Channels(Mapping[str, grpc.aio.Channel]):
    """Channels to services by their names, each opened when it is first asked for: that takes a millisecond each."""

    def __init__(
        self, layout: Layout, names: Iterable[str], tell: Tell | None = None, idle_s: float | None = None
    ) -> None:
        """``tell`` is told of each call. See ``open_channel`` for ``idle_s``."""
        self._idle_s = idle_s
        self._layout = layout
        self._tell = tell
        self._names = tuple(names)
        self._opened: dict[str, grpc.aio.Channel] = {}

    def __getitem__(self, name: str) -> grpc.aio.Channel:
        if name not in self._opened:
            if name not in self._names:
                raise KeyError(name)
            self._opened[name] = open_channel(self._layout.socket(name), self._tell, self._idle_s)
        return self._opened[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    async def close(self) -> None:
        """Close those that were opened; calls that go on end."""
        for channel in self._opened.values():
            await channel.close()


class Services:
    """One engine's services."""

    def __init__(self, layout: Layout, channels: Channels, builder: Channels, *, waits: bool = False) -> None:
        """``channels`` are those of all services that an engine uses, in the order of the table of services."""
        self._waits = waits
        self.layout = layout
        self.channels = channels
        self._builder = builder

    @classmethod
    @asynccontextmanager
    async def connect(cls, layout: Layout, *, waits: bool = False, tell: Tell | None = None) -> "AsyncIterator[Self]":
        """Be ready to open channels to the services of ``layout``. Nothing is sent before the first call.

        With ``waits`` imaged, the snapshotter and the builder are known to be there: one that is away is waited for by
        the calls that may be repeated, the first of them as any other. ``tell`` is told of each call.
        """
        async with AsyncExitStack() as stack:
            channels = Channels(layout, USED_BY_ENGINE, tell)
            builder = Channels(layout, (_BUILDER,), tell, _BUILDER_IDLE_S)
            for opened in (channels, builder):
                stack.push_async_callback(opened.close)
            yield cls(layout, channels, builder, waits=waits)

    async def reach(self, deadline_s: float) -> None:
        """Return when all services can be called. Raises UnavailableError, naming one that cannot by the deadline."""
        end = asyncio.get_running_loop().time() + deadline_s
        for name, channel in self.channels.items():  # one after the other: all of them connect meanwhile
            await reach(channel, name, end - asyncio.get_running_loop().time())

    async def gone(self) -> None:
        """Return when the connection to one of the services has ended: it has stopped, begun anew or died."""
        ready = grpc.ChannelConnectivity.READY
        changes = [asyncio.create_task(channel.wait_for_state_change(ready)) for channel in self.channels.values()]
        try:
            await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for change in changes:
                change.cancel()

    @property
    def _imaged(self) -> grpc.aio.Channel:
        return self.channels["imaged"]

    @property
    def _snapshotter(self) -> grpc.aio.Channel:
        return self.channels["snapshotter"]

    @property
    def _buildd(self) -> grpc.aio.Channel:
        return self._builder[_BUILDER]

    @cached_property
    def runtime(self) -> Runtime:
        """What runs."""
        channel, layout = self.channels["runtimed"], self.layout
        if layout.there is not None:
            return Runtime(channel)
        return Runtime(channel, layout.desk("runtimed"), layout.streams_socket)

    @cached_property
    def images(self) -> "Images":
        """Images."""
        from sampan.client.storage.images import ImagesClient

        return ImagesClient(self._imaged)

    @cached_property
    def leases(self) -> "Leases":
        """Lasting leases."""
        from sampan.client.storage.leases import LeasesClient

        return LeasesClient(self._imaged, waits=self._waits)

    @cached_property
    def layers(self) -> "Layers":
        """Layers."""
        from sampan.client.storage.snapshots import LayersClient

        return LayersClient(self._snapshotter, waits=self._waits)

    @cached_property
    def differ(self) -> "Differ":
        """What makes layers of snapshots."""
        from sampan.client.storage.snapshots import DifferClient

        return DifferClient(self._snapshotter, waits=self._waits)

    @cached_property
    def snapshots(self) -> "Snapshots":
        """Snapshots."""
        from sampan.client.storage.snapshots import SnapshotsClient

        return SnapshotsClient(self._snapshotter, waits=self._waits)

    @cached_property
    def builds(self) -> "Builder":
        """What builds, for those who ask for it: an engine does everything else without."""
        from sampan.client.builds.client import BuildsClient

        return BuildsClient(
            self._buildd,
            self.layout.socket(_BUILDER),
            self.layout.desk(_BUILDER),
            waits=self._waits,
            is_empty=lambda: self.layout.is_empty(_BUILDER),
        )

    @property
    def content_disk(self) -> "Disk":
        """What blobs take."""
        return _disk(self._imaged)

    @property
    def layer_disk(self) -> "Disk":
        """What layers and snapshots take."""
        return _disk(self._snapshotter)

    @property
    def runtime_disk(self) -> "Disk":
        """What containers and volumes take."""
        return _disk(self.channels["runtimed"])

    @property
    def containers(self) -> "Containers":
        """Containers."""
        return self.runtime.containers

    @property
    def archives(self) -> "Archives":
        """Containers' files."""
        return self.runtime.archives

    @property
    def execs(self) -> "Execs":
        """Further processes in containers."""
        return self.runtime.execs

    @property
    def events(self) -> "Events":
        """Events."""
        return self.runtime.events

    @property
    def networks(self) -> "Networks":
        """Networks."""
        return self.runtime.networks

    @property
    def volumes(self) -> "Volumes":
        """Volumes."""
        return self.runtime.volumes

    @property
    def host(self) -> "Host":
        """What the host can do."""
        return self.runtime.host

    @property
    def reconnected(self) -> "Callable[[], Awaitable[None]]":
        """Returns when runtimed can be called again after it was gone; UnavailableError if it does not come back."""
        return self.runtime.reconnected

    @property
    def checks(self) -> "Mapping[str, Check]":
        """Each service's own check, by its name, in the order of the table of services."""
        from sampan.client.maintenance import CheckClient

        channels = {**self.channels, _BUILDER: self._buildd}
        return {name: CheckClient(channel, name) for name, channel in channels.items()}

    @asynccontextmanager
    async def private_registry(self, deadline_s: float) -> "AsyncIterator[Check | None]":
        """Yield the check of the private registry, None if there never was one. UnavailableError if it does not run."""
        from sampan.client.maintenance import CheckClient

        if not await asyncio.to_thread((self.layout.data(_PRIVATE_REGISTRY) / _REGISTRY_ROWS).exists):
            yield None
            return
        async with open_channel(self.layout.socket(_PRIVATE_REGISTRY)) as channel:
            await reach(channel, _PRIVATE_REGISTRY, deadline_s)
            yield CheckClient(channel, _PRIVATE_REGISTRY)


def _disk(channel: grpc.aio.Channel) -> "Disk":
    from sampan.client.maintenance import DiskClient

    return DiskClient(channel)
