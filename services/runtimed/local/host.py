"""The host as clients are told of it."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable

from runtimed.events import Events
from runtimed.host.facts import HostFacts
from runtimed.host.info import Installed, security_options, warnings
from sampan.resource.container import Status
from sampan.resource.host import HostInfo, OciRuntimeInfo


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
        volume_drivers: Collection[str],
    ) -> None:
        self._host = host
        self._installed = installed
        self._statuses = statuses
        self._events = events
        self._log_drivers = tuple(sorted(log_drivers))
        self._network_drivers = tuple(sorted(network_drivers))
        self._volume_drivers = tuple(sorted(volume_drivers))

    async def info(self) -> HostInfo:
        """Say what there is and what was chosen because of it."""
        tally = Counter(self._statuses())
        runtimes = self._installed.runtimes
        return HostInfo(
            default_runtime=runtimes.default,
            runtimes=tuple(
                OciRuntimeInfo(one.name, one.path, one.version, one.usable, one.reason) for one in runtimes.found
            ),
            cgroup_version=self._host.layout.version,
            cgroup_layout=self._host.layout.value,
            security_options=tuple(security_options(self._host)),
            warnings=tuple(warnings(self._host, self._installed)),
            containers_running=tally[Status.RUNNING] + tally[Status.RESTARTING],
            containers_paused=tally[Status.PAUSED],
            containers_stopped=tally[Status.CREATED] + tally[Status.EXITED] + tally[Status.DEAD],
            conmon_version=self._installed.conmon_version,
            log_drivers=self._log_drivers,
            network_drivers=self._network_drivers,
            volume_drivers=self._volume_drivers,
            events=self._events.published,
        )
