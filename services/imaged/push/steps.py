"""What a push tells its client while it goes on."""

import asyncio
import enum
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from imaged.images.model import Layer
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference

# Ten a second and layer are more than a person can read.
_INTERVAL_S: Final = 0.1


class PushPhase(enum.Enum):
    """What is happening to a layer."""

    PREPARING = "preparing"
    WAITING = "waiting"
    PUSHING = "pushing"
    PUSHED = "pushed"
    EXISTED = "existed"  # the repository had it
    MOUNTED = "mounted"  # another repository of the registry had it
    RETRYING = "retrying"


@dataclass(frozen=True, slots=True)
class PushStep:
    """One step of one layer."""

    digest: Digest
    phase: PushPhase
    offset: int  # bytes so far; with RETRYING, seconds until the next try
    total: int  # bytes
    mounted_from: str = ""  # repository


@dataclass(frozen=True, slots=True)
class PushResolved:
    """What will be pushed."""

    reference: Reference
    layers: tuple[Layer, ...]  # base first


@dataclass(frozen=True, slots=True)
class Pushed:
    """The registry has the image under its tag."""

    image_id: Digest
    tag: str
    manifest: Descriptor  # or index: what the tag points to there
    instead_of: Descriptor | None = None  # the index, if not all of it is here


class Steps:
    """The newest step of each layer, until the client takes it: a slow one misses steps and delays nobody."""

    def __init__(self) -> None:
        self._newest: dict[Digest, PushStep] = {}
        self._wake = asyncio.Event()
        self._over = asyncio.Event()

    def post(self, step: PushStep) -> None:
        """Note a layer's step."""
        self._newest[step.digest] = step
        self._wake.set()

    def end(self) -> None:
        """Let ``take`` end once everything is taken."""
        self._over.set()
        self._wake.set()

    async def take(self) -> AsyncIterator[PushStep]:
        """Yield what is new until ``end``."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            newest, self._newest = self._newest, {}
            for step in newest.values():
                yield step
            if self._over.is_set() and not self._newest:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_INTERVAL_S):
                    await self._over.wait()
