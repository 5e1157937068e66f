"""What the handlers work with."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from dockerapi.http.hangup import HangupWatch
from dockerapi.metrics import ApiMetrics
from sampan.engine.engine import Engine
from sampan.resource.protocols import Archives, Containers, Events, Execs, Host, Networks, Volumes


class RuntimeBackend(Protocol):
    """What handlers ask of the service of containers, networks and volumes."""

    @property
    def containers(self) -> Containers:
        """Containers."""

    @property
    def archives(self) -> Archives:
        """Their files."""

    @property
    def execs(self) -> Execs:
        """Further processes in them."""

    @property
    def events(self) -> Events:
        """What happened."""

    @property
    def networks(self) -> Networks:
        """Networks."""

    @property
    def volumes(self) -> Volumes:
        """Volumes."""

    @property
    def host(self) -> Host:
        """What the host can do."""

    @property
    def reconnected(self) -> Callable[[], Awaitable[None]]:
        """Returns when the service is back; UnavailableError if it does not come back."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The services, and what belongs to this process."""

    engine: Engine
    runtime: RuntimeBackend
    metrics: ApiMetrics
    hangups: HangupWatch
