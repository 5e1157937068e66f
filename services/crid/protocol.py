"""What crid's rooms owe each other."""

from collections.abc import Iterable
from typing import Protocol

from crid.sandboxes.model import Sandbox


class SandboxHost(Protocol):
    """What of a pod is on the machine without its containers: namespaces, files, shared memory."""

    async def make(self, sandbox: Sandbox) -> None:
        """Make all but ``/etc/hosts``, which needs addresses.

        Raises:
            InvalidArgumentError: the kernel does not take a sysctl.
            OSError: it makes no namespace, or no mount.
        """

    async def name(self, sandbox: Sandbox) -> None:
        """Write ``/etc/hosts``; it is whole after that."""

    async def clear(self, id: str) -> None:
        """Remove all that there is of a sandbox; safe to repeat, also where it was made half."""

    async def is_whole(self, sandbox: Sandbox) -> bool:
        """Say whether everything is there: a reboot ends namespaces."""

    async def leftovers(self, known: Iterable[str]) -> list[str]:
        """Return the IDs of sandboxes that have something here and are none of ``known``."""
