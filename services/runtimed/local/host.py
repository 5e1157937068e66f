"""The host and its events as clients are told of them."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime

from runtimed.events import Events
from runtimed.host.facts import HostFacts, forwards_ipv4
from runtimed.host.info import Choices, Installed, security_options, warnings
from runtimed.oci.devices.cdi import read_devices
from sampan.docker.times import zoned
from sampan.resource.container import Status
from sampan.resource.event import Event
from sampan.resource.listing import NO_FILTERS, Filters
from sampan.resource.stats import HostInfo, OciRuntimeInfo


class LocalEvents:
    """Satisfies ``resource.protocols.Events``; subscriptions end when the service stops."""

    def __init__(self, events: Events, stopping: asyncio.Event) -> None:
        self._events = events
        self._stopping = stopping

    def subscribe(
        self, *, since_ns: int = 0, until_ns: int = 0, filters: Filters = NO_FILTERS, owner: str = ""
    ) -> AsyncGenerator[Event | None, None]:
        """Yield None when the subscription is in place, past events, then live ones."""
        return self._events.subscribe(since_ns, until_ns, filters, self._stopping, owner)

    async def kept_since_ns(self) -> int:
        """Return the time of the oldest event that is kept, 0 if none has been dropped."""
        return self._events.kept_since_ns()

    async def publish(self, events: Iterable[Event]) -> None:
        """Tell what another service did."""
        for event in events:
            self._events.publish(event)


class LocalHost:
    """Satisfies ``resource.protocols.Host``."""

    def __init__(
        self,
        host: HostFacts,
        installed: Installed,
        statuses: Callable[[], Iterable[Status]],
        events: Events,
        *,
        log_drivers: Collection[str],
        network_drivers: Collection[str],
        volume_drivers: Callable[[], Awaitable[Collection[str]]],
        choices: Choices,
        cdi_spec_dirs: Sequence[str] = (),
        address_pools: Sequence[str] = (),
        remapped: bool = False,
        cgroup_driver: str = "cgroupfs",
    ) -> None:
        """``choices`` may be replaced. ``remapped``: containers have user namespaces unless they say otherwise."""
        self._remapped = remapped
        self._cgroup_driver = cgroup_driver
        self.choices = choices
        self._host = host
        self._installed = installed
        self._statuses = statuses
        self._events = events
        self._log_drivers = tuple(sorted(log_drivers))
        self._network_drivers = tuple(sorted(network_drivers))
        self._volume_drivers = volume_drivers
        self._cdi_spec_dirs = tuple(cdi_spec_dirs)
        self._address_pools = tuple(address_pools)

    async def info(self) -> HostInfo:
        """Say what there is and what was chosen because of it."""
        tally = Counter(self._statuses())
        runtimes, choices = self._installed.runtimes, self.choices
        devices = await asyncio.to_thread(read_devices, self._cdi_spec_dirs)
        forwarding = await asyncio.to_thread(forwards_ipv4)
        return HostInfo(
            default_runtime=runtimes.default,
            runtimes=tuple(
                OciRuntimeInfo(one.name, one.path, one.version, one.usable, one.reason, one.features)
                for one in runtimes.found
            ),
            cgroup_version=self._host.layout.version,
            cgroup_layout=self._host.layout.value,
            security_options=tuple(security_options(self._host, choices, remapped=self._remapped)),
            warnings=(
                *warnings(self._host, self._installed, choices),
                *(f"WARNING: {each}" for each in devices.problems),
            ),
            containers_running=tally[Status.RUNNING] + tally[Status.RESTARTING],
            containers_paused=tally[Status.PAUSED],
            containers_stopped=tally[Status.CREATED] + tally[Status.EXITED] + tally[Status.DEAD],
            conmon_version=self._installed.conmon_version,
            log_drivers=self._log_drivers,
            network_drivers=self._network_drivers,
            volume_drivers=tuple(sorted(await self._volume_drivers())),
            events=self._events.published,
            cdi_spec_dirs=self._cdi_spec_dirs,
            cdi_devices=devices.names,
            cgroup_driver=self._cgroup_driver,
            labels=choices.labels,
            log_driver=choices.log_driver,
            stops_containers=not choices.live_restore,
            limits=tuple(limit for limit, known in asdict(self._host.limits).items() if known),
            ipv4_forwarding=forwarding,
            default_address_pools=self._address_pools,
            init_path=self._installed.init_path or "",
            system_time=zoned(datetime.now(UTC)),
        )
