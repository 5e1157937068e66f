"""Sandboxes whose shared pid namespace ends behind crid's back: the container that holds it was killed."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Final, Protocol, Self

from crid.sandboxes.model import Sandbox
from sampan.errors import SampanError
from sampan.log import log
from sampan.resource.event import Event

# runtimed's word for the end of a container.
ENDED: Final = "die"

# Yields None when nothing will be missed any more, then ends of pods' containers.
Follow = Callable[[], AsyncGenerator[Event | None, None]]


class Watched(Protocol):
    """Sandboxes; ``sandboxes.sandboxes`` says what each promises."""

    def everything(self) -> list[Sandbox]:
        """Return all."""

    async def stop(self, id: str) -> None:
        """Stop one."""


class InfraWatch:
    """Stops a sandbox when its infra container ends: kubelet sees that it is not ready and makes another; a context."""

    def __init__(
        self,
        follow: Follow,
        sandboxes: Watched,
        is_held: Callable[[Sandbox], Awaitable[bool]],
        back: Callable[[], Awaitable[None]],
    ) -> None:
        """``back`` returns when runtimed can be asked again, and raises UnavailableError if that takes too long."""
        self._follow = follow
        self._sandboxes = sandboxes
        self._is_held = is_held
        self._back = back
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin."""
        self._task = asyncio.create_task(self._forever(), name="watch of pid namespaces")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End."""
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _forever(self) -> None:
        while True:
            try:
                await self._watch()
            except SampanError as error:
                log.warning("pid namespaces of pods are not watched", error=str(error))
            try:
                await self._back()
            except SampanError as error:
                log.warning("runtimed is not back", error=str(error))

    async def _watch(self) -> None:
        async with aclosing(self._follow()) as events:
            async for event in events:
                for sandbox in self._sandboxes.everything():
                    if not sandbox.ready or not sandbox.infra:
                        continue
                    # At first what has ended meanwhile is looked for, then each end that is told.
                    if not await self._is_held(sandbox) if event is None else event.actor_id == sandbox.infra:
                        await self._stop(sandbox)

    async def _stop(self, sandbox: Sandbox) -> None:
        log.warning("pod sandbox has lost its pid namespace", sandbox=sandbox.id, pod=sandbox.name)
        try:
            await self._sandboxes.stop(sandbox.id)
        except SampanError as error:  # it is not ready, and kubelet stops it again
            log.warning("pod sandbox is not stopped yet", sandbox=sandbox.id, error=str(error))
