"""crid's cores on a machine in memory: one life of a process after the other."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from crid.containers.containers import Containers
from crid.containers.members import RuntimeMembers
from crid.containers.store import ContainerStore
from crid.handlers import Handlers
from crid.model.config import ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainer, LinuxPod, PodConfig
from crid.model.config import PodMetadata as Pod
from crid.model.security import ContainerSecurity, NamespaceMode, NamespaceOption, SandboxSecurity
from crid.sandboxes.host import Places
from crid.sandboxes.sandboxes import Parts, Sandboxes
from crid.sandboxes.store import SandboxStore
from crid.wire import convert
from sampan.engine.create import Creating
from sampan.store.database import Store
from tests.fakes.crashes import Steps
from tests.fakes.pods import IMAGE, FakeNetworks, FakePodRuntime, FakeSandboxHost, PodMachine

T = TypeVar("T")

PRIVATE = NamespaceOption(pid=NamespaceMode.CONTAINER)


def pod(name: str = "web", options: NamespaceOption = PRIVATE, attempt: int = 0, **more: object) -> PodConfig:
    """A pod's config."""
    return PodConfig(
        Pod(name, f"uid-{name}", "default", attempt),
        hostname=name if options.network is NamespaceMode.POD else "",
        log_directory="",
        linux=LinuxPod(security_context=SandboxSecurity(namespace_options=options)),
        **more,  # type: ignore[arg-type]
    )


def container(name: str = "main", attempt: int = 0, **more: object) -> ContainerConfig:
    """A container's config."""
    return ContainerConfig(ContainerMetadata(name, attempt), ImageSpec(IMAGE), **more)  # type: ignore[arg-type]


def secured(**context: object) -> ContainerConfig:
    """A container with a security context."""
    return container(linux=LinuxContainer(security_context=ContainerSecurity(**context)))  # type: ignore[arg-type]


@dataclass
class Life:
    """One process."""

    sandboxes: Sandboxes
    containers: Containers
    networks: FakeNetworks
    steps: Steps
    runtime: FakePodRuntime

    async def run(self, config: PodConfig, handler: str = "") -> str:
        """Make a pod ready."""
        encoded = convert.POD_CONFIG.encode(config).SerializeToString(deterministic=True)
        return await self.sandboxes.run(config, encoded, handler)


class SteppedStore(Store):
    """A database whose every change is a step at which its process may be killed."""

    steps: Steps

    async def write(self, fn, *, durable=True):  # type: ignore[no-untyped-def]
        self.steps.step("write")
        return await super().write(fn, durable=durable)


class World:
    """What outlives crid."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.machine = PodMachine()
        self._times = itertools.count(1)

    @asynccontextmanager
    async def life(self, steps: Steps | None = None) -> AsyncIterator[Life]:
        """Start a process, which recovers first."""
        steps = steps or Steps()
        store = SteppedStore(self.directory / "crid.db", "crid.schema", durable=False)
        store.steps = steps
        async with store:
            host, networks = FakeSandboxHost(self.machine, steps), FakeNetworks(self.machine, steps)
            runtime = FakePodRuntime(self.machine, steps)
            records = ContainerStore(store, convert.container_bytes, convert.container_of)
            kept = SandboxStore(store, convert.pod_of)
            members = RuntimeMembers(runtime, records, self.places)  # type: ignore[arg-type]
            handlers = Handlers({"": "", "quick": "crun"})
            sandboxes = Sandboxes(
                Parts(kept, host, self.places, networks, members, handlers.names, lambda: next(self._times))
            )
            containers = Containers(
                cast("Creating", runtime), records, sandboxes, members, handlers, lambda: next(self._times)
            )
            assert await kept.load() == {}
            assert await records.load() == {}
            # What cni does at its start: networks of sandboxes that are not whole are taken back.
            for stranger in {*self.machine.networks}.difference(sandboxes.networked()):
                self.machine.networks.pop(stranger)
            assert await sandboxes.recover() == {}
            await containers.recover()
            yield Life(sandboxes, containers, networks, steps, runtime)

    @staticmethod
    def places(id: str) -> Places:
        """Say where a sandbox's files would be."""
        return Places(Path("/run/test") / id)
