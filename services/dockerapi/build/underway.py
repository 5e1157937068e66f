"""What two requests share of one build: a context that is sent by itself, and the wish that it end."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from dockerapi.http.body import Body
from sampan.errors import ConflictError, InvalidArgumentError

# How long the two requests wait for each other.
_MEET_S: Final = 30.0


class Upload:
    """A context on its way."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.taken = asyncio.Event()
        self.over = asyncio.Event()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield what the client sends."""
        try:
            async for chunk in self._body.chunks():
                yield chunk
        finally:
            self.over.set()


class Underway:
    """The builds of this process that have a name of their client's (``buildid``)."""

    def __init__(self, meet_s: float = _MEET_S) -> None:
        """``meet_s``: how long the two requests of one upload wait for each other."""
        self._meet_s = meet_s
        self._uploads: dict[str, asyncio.Future[Upload]] = {}
        self._builds: dict[str, asyncio.Task[object]] = {}

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Let the current task be cancelled under a name, if it has one. Raises ConflictError: the name is taken."""
        task = asyncio.current_task()
        if not name or task is None:
            yield
            return
        if name in self._builds:
            raise ConflictError(f"build {name} is under way")
        self._builds[name] = task
        try:
            yield
        finally:
            del self._builds[name]

    async def cancel(self, name: str) -> None:
        """End a build, and return when it has ended; one that is not there has."""
        if (task := self._builds.get(name)) is not None:
            task.cancel()
            await asyncio.wait({task})

    async def take(self, name: str) -> Upload:
        """Return the context that is sent for a build. Raises InvalidArgumentError: none comes."""
        try:
            async with asyncio.timeout(self._meet_s):
                upload = await asyncio.shield(self._place(name))
        except TimeoutError:
            raise InvalidArgumentError(f"the context of build {name} was not sent") from None
        finally:
            self._uploads.pop(name, None)
        upload.taken.set()
        return upload

    async def give(self, name: str, body: Body) -> None:
        """Hand a context over; return when it has been read, or its build is over.

        Raises:
            ConflictError: it was sent before.
            InvalidArgumentError: no build takes it; one that was refused never does.
        """
        place = self._place(name)
        if place.done():
            raise ConflictError(f"the context of build {name} was sent before")
        upload = Upload(body)
        place.set_result(upload)
        try:
            async with asyncio.timeout(self._meet_s):
                await upload.taken.wait()
        except TimeoutError:
            raise InvalidArgumentError(f"no build {name} takes a context") from None
        finally:
            self._uploads.pop(name, None)
        await upload.over.wait()

    def _place(self, name: str) -> "asyncio.Future[Upload]":
        return self._uploads.setdefault(name, asyncio.get_running_loop().create_future())
