"""A machine with pods, in memory: what outlives crid when it is killed, and the parts that work on it."""

import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_address

from crid.cni.model import Dns, PodNetwork, PodRequest
from crid.sandboxes.model import Sandbox
from sampan.errors import ConflictError, NotFoundError, NotModifiedError, SampanError, StartError
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.image_config import RunConfig
from sampan.resource.container import ContainerDetails, ContainerState, Created, Status
from sampan.resource.container_spec import ContainerSpec, Resources, RestartPolicy
from sampan.resource.image import ImageDetails
from sampan.resource.listing import NO_FILTERS, RUNNING_ONES, Filters, Selection
from tests.fakes.crashes import Steps

IMAGE = "busybox:latest"
_DIGEST = Digest("sha256:" + "1" * 64)
_NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class PodMachine:
    """The world."""

    made: dict[str, bool] = field(default_factory=dict)  # what the host has of sandboxes, and whether all of it
    networks: dict[str, str] = field(default_factory=dict)  # addresses by sandbox
    containers: dict[str, ContainerDetails] = field(default_factory=dict)
    updates: list[Resources] = field(default_factory=list)
    refuse: dict[str, SampanError | OSError] = field(default_factory=dict)  # by what is asked of whom

    def asked(self, steps: Steps, what: str) -> None:
        """Go on, unless it is to be refused, or crid is killed here."""
        steps.step(what)
        if what in self.refuse:
            raise self.refuse[what]

    def change(self, id: str, **state: object) -> None:
        """Change a container's state."""
        known = self.containers[id]
        self.containers[id] = replace(known, state=replace(known.state, **state))  # type: ignore[arg-type]


class FakeSandboxHost:
    """Satisfies ``crid.protocol.SandboxHost``."""

    def __init__(self, machine: PodMachine, steps: Steps) -> None:
        self._machine = machine
        self._steps = steps

    async def make(self, sandbox: Sandbox) -> None:
        self._machine.asked(self._steps, "host.make")
        self._machine.made[sandbox.id] = False

    async def name(self, sandbox: Sandbox) -> None:
        self._machine.asked(self._steps, "host.name")
        self._machine.made[sandbox.id] = True

    async def clear(self, id: str) -> None:
        self._machine.asked(self._steps, "host.clear")
        self._machine.made.pop(id, None)

    async def is_whole(self, sandbox: Sandbox) -> bool:
        return self._machine.made.get(sandbox.id, False)

    async def leftovers(self, known: Iterable[str]) -> list[str]:
        return sorted({*self._machine.made}.difference(known))


class FakeNetworks:
    """Pods' networks, taken back at once."""

    def __init__(self, machine: PodMachine, steps: Steps) -> None:
        self._machine = machine
        self._steps = steps
        self.requests: list[PodRequest] = []

    async def add(self, pod: PodRequest, prepare: Callable[[], Awaitable[None]]) -> PodNetwork:
        await prepare()
        self._machine.asked(self._steps, "networks.add")
        self.requests.append(pod)
        address = f"10.0.0.{len(self._machine.networks) + 2}"
        self._machine.networks[pod.sandbox] = address
        return PodNetwork("net", (ip_address(address),), Dns(), ())

    async def remove(self, sandbox: str) -> None:
        self._machine.asked(self._steps, "networks.remove")
        self._machine.networks.pop(sandbox, None)


class FakePodRuntime:
    """Containers, images and layers of an engine, as far as pods need them."""

    def __init__(self, machine: PodMachine, steps: Steps) -> None:
        self._machine = machine
        self._steps = steps
        self.containers = self.images = self.layers = self.snapshots = self

    async def get(self, name: str, *, size: bool = False, manifests: bool = False) -> ContainerDetails | ImageDetails:
        if name in (IMAGE, str(_DIGEST)):
            blob = Descriptor("application/vnd.oci.image.config.v1+json", _DIGEST, 1)
            config = RunConfig(cmd=("sh",), env=("PATH=/bin",))
            return ImageDetails(_DIGEST, blob, blob, repo_tags=(IMAGE,), config=config)
        if name not in self._machine.containers:
            raise NotFoundError(f"No such container: {name}")
        return self._machine.containers[name]

    async def stack(self, diff_ids: Iterable[Digest]) -> str:
        return "base"

    async def stat(self, name: str) -> None:
        return None

    async def create(self, spec: ContainerSpec) -> Created:
        self._machine.asked(self._steps, "runtime.create")
        if any(each.name == spec.name for each in self._machine.containers.values()):
            raise ConflictError(f"the name {spec.name} is in use")
        made = ContainerDetails(secrets.token_hex(32), spec, _NOW)
        self._machine.containers[made.id] = made
        return Created(made.id)

    async def start(self, container: str) -> None:
        self._machine.asked(self._steps, "runtime.start")
        if self._machine.containers[container].state.status is Status.RUNNING:
            raise NotModifiedError("it runs")
        if self._machine.containers[container].spec.process.args[:1] == ("/nope",):
            self._machine.change(container, error="no such file", exit_code=127)
            raise StartError("no such file")
        self._machine.change(container, status=Status.RUNNING, started_at=_NOW)

    async def list(
        self, selection: Selection = RUNNING_ONES, filters: Filters = NO_FILTERS, *, size: bool = False
    ) -> tuple[ContainerDetails, ...]:
        return tuple(each for each in self._machine.containers.values() if each.spec.owner == selection.owner)

    async def stop(self, container: str, timeout_s: float | None = None, signal: str = "") -> None:
        self._machine.asked(self._steps, "runtime.stop")
        if container not in self._machine.containers:
            raise NotFoundError(container)
        if self._machine.containers[container].state.status is not Status.RUNNING:
            raise NotModifiedError(container)
        self._machine.change(container, status=Status.EXITED, exit_code=137, finished_at=_NOW)

    async def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        self._machine.asked(self._steps, "runtime.remove")
        if self._machine.containers.pop(container, None) is None:
            raise NotFoundError(container)

    async def update(
        self, container: str, resources: Resources | None = None, restart_policy: RestartPolicy | None = None
    ) -> tuple[str, ...]:
        assert resources is not None
        self._machine.updates.append(resources)
        return ()

    async def reopen_log(self, container: str) -> None:
        if self._machine.containers[container].state.status is not Status.RUNNING:
            raise ConflictError(f"container {container} is not running")


def exited(code: int = 0, **more: object) -> ContainerState:
    """A state of a container that has ended."""
    state = ContainerState(Status.EXITED, exit_code=code, started_at=_NOW, finished_at=_NOW)
    return replace(state, **more)  # type: ignore[arg-type]
