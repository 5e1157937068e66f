"""What the snapshotter needs to know of images."""

from collections.abc import Sequence
from typing import Protocol

from sampan.disk import Root


class RootSource(Protocol):
    """Who knows what must stay unpacked."""

    async def roots(self) -> Sequence[Root]:
        """Return all images, and all leases for images to come.

        Raises:
            UnavailableError: nobody answers.
        """
