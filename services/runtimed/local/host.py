"""The host and its events as clients are told of them."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Sequence

from runtimed.events import Events
from runtimed.host.facts import HostFacts
from runtimed.host.info import Installed, security_options, warnings
from runtimed.oci.devices.cdi import read_devices
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
        cdi_spec_dirs: Sequence[str] = (),
        labels: Sequence[str] = (),
        log_driver: str = "",
        seccomp_profile: str = "",
        remapped: bool = False,
        live_restore: bool = True,
        cgroup_driver: str = "cgroupfs",
    ) -> None:
        """``labels`` are the engine's, ``log_driver`` and ``seccomp_profile`` those of containers that ask for none.

        All three may be replaced.

        So may ``live_restore``, whether containers run on when the engine is stopped.

        ``remapped``: containers have user namespaces unless they say otherwise.
        """
        self._remapped = remapped
        self._cgroup_driver = cgroup_driver
        self.labels = tuple(labels)
        self.log_driver = log_driver
        self.seccomp_profile = seccomp_profile
        self.live_restore = live_restore
        self._host = host
        self._installed = installed
        self._statuses = statuses
        self._events = events
        self._log_drivers = tuple(sorted(log_drivers))
        self._network_drivers = tuple(sorted(network_drivers))
        self._volume_drivers = volume_drivers
        self._cdi_spec_dirs = tuple(cdi_spec_dirs)

    async def info(self) -> HostInfo:
        """Say what there is and what was chosen because of it."""
        tally = Counter(self._statuses())
        runtimes = self._installed.runtimes
        devices = await asyncio.to_thread(read_devices, self._cdi_spec_dirs)
        return HostInfo(
            default_runtime=runtimes.default,
            runtimes=tuple(
                OciRuntimeInfo(one.name, one.path, one.version, one.usable, one.reason) for one in runtimes.found
            ),
            cgroup_version=self._host.layout.version,
            cgroup_layout=self._host.layout.value,
            security_options=tuple(security_options(self._host, self.seccomp_profile, remapped=self._remapped)),
            warnings=(*warnings(self._host, self._installed), *(f"WARNING: {each}" for each in devices.problems)),
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
            labels=self.labels,
            log_driver=self.log_driver,
            stops_containers=not self.live_restore,
        )
