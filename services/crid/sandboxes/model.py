"""What a pod sandbox is."""

import enum
from dataclasses import dataclass

from crid.model.config import PodConfig
from crid.model.security import NamespaceMode, NamespaceOption


class State(enum.Enum):
    """How far a sandbox is; each is recorded before what it says is done."""

    CREATING = "creating"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    REMOVING = "removing"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A pod sandbox's record."""

    id: str  # 64 hex digits
    config: PodConfig
    encoded: bytes  # the same as it was sent
    created_ns: int
    handler: str = ""  # the runtime handler; empty: the default
    state: State = State.CREATING
    addresses: tuple[str, ...] = ()  # the pod's own first; none with the host's network
    infra: str = ""  # the container that keeps a shared pid namespace

    @property
    def ready(self) -> bool:
        """Whether containers can be made in it."""
        return self.state is State.READY

    @property
    def namespaces(self) -> NamespaceOption:
        """Whose namespaces it has."""
        return self.config.linux.security_context.namespace_options

    @property
    def host_network(self) -> bool:
        """Whether it is in the host's network, and has the host's name then."""
        return self.namespaces.network is NamespaceMode.NODE

    @property
    def shares_pids(self) -> bool:
        """Whether its containers see each other's processes."""
        return self.namespaces.pid is NamespaceMode.POD

    @property
    def name(self) -> str:
        """What it is called where one sandbox has one name."""
        said = self.config.metadata
        return f"{said.name}_{said.namespace}_{said.uid}_{said.attempt}"
