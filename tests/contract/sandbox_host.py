"""What ``crid.protocol.SandboxHost`` promises, whoever keeps it."""

from crid.model.config import LinuxPod, PodConfig, PodMetadata
from crid.model.security import NamespaceMode, NamespaceOption, SandboxSecurity
from crid.protocol import SandboxHost
from crid.sandboxes.model import Sandbox


def sandbox(number: int = 1, *, network: NamespaceMode = NamespaceMode.POD, **linux: object) -> Sandbox:
    """A pod sandbox of its own number."""
    security = SandboxSecurity(namespace_options=NamespaceOption(network, NamespaceMode.CONTAINER))
    hostname = "" if network is NamespaceMode.NODE else "web"
    config = PodConfig(
        PodMetadata(f"web{number}", f"uid{number}", "default"),
        hostname=hostname,
        linux=LinuxPod(security_context=security, **linux),  # type: ignore[arg-type]
    )
    return Sandbox(f"{number:064x}", config, b"", number, addresses=("10.0.0.2",))


class SandboxHostContract:
    """Subclass with a fixture ``host`` that has nothing yet."""

    promises: tuple[type, ...] = (SandboxHost,)

    async def test_a_sandbox_is_whole_once_it_has_been_made_and_named(self, host: SandboxHost) -> None:
        assert not await host.is_whole(sandbox())
        await host.make(sandbox())
        assert not await host.is_whole(sandbox())
        await host.name(sandbox())
        assert await host.is_whole(sandbox())
        assert not await host.is_whole(sandbox(2))

    async def test_what_is_cleared_is_gone_and_may_be_cleared_again(self, host: SandboxHost) -> None:
        await host.make(sandbox())
        await host.name(sandbox())
        await host.clear(sandbox().id)
        assert not await host.is_whole(sandbox())
        assert await host.leftovers([]) == []
        await host.clear(sandbox().id)

    async def test_what_was_made_half_is_cleared_and_made_again(self, host: SandboxHost) -> None:
        await host.make(sandbox())
        await host.clear(sandbox().id)
        await host.make(sandbox())
        await host.name(sandbox())
        assert await host.is_whole(sandbox())

    async def test_leftovers_are_of_sandboxes_that_nobody_knows(self, host: SandboxHost) -> None:
        await host.make(sandbox(1))
        await host.make(sandbox(2))
        assert await host.leftovers([sandbox(1).id]) == [sandbox(2).id]
        assert await host.leftovers([sandbox(2).id, sandbox(1).id, sandbox(3).id]) == []
