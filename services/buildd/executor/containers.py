"""Containers beside a build's graph: a frontend's own, and those that clients and frontends ask for.

What is in one is made as a step's is, and nothing of it is kept. The first of its processes is its init: the others
run where that one runs, and end with it.
"""

import asyncio
import signal
import uuid
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from buildd.executor.protocol import ContainerInput, Program
from buildd.protocol import Readable
from sampan.build.step import StepExit, StepInput, StepOutput, StepProcess, StepSignal, StepSpec, StepStarted
from sampan.cancellation import to_the_end
from sampan.errors import ConflictError, NotFoundError, SampanError
from sampan.log import log
from sampan.resource.protocols import Steps

_WAITING: Final = 16  # outputs that nobody has read: the process waits then
_KILLED_S: Final = 10.0  # a process that was killed, until nothing of it is left
_MAX_GIVEN_BYTES: Final = 1 << 20  # that the process has not read: who gives more waits


class ContainerProcess:
    """Satisfies ``executor.protocol.ContainerProcess``."""

    def __init__(self, steps: Steps, spec: StepSpec) -> None:
        self.spec = spec
        self.started = asyncio.Event()  # or it never will
        self.ended = asyncio.Event()
        self.began = False  # somebody reads what comes of it
        self._steps = steps
        self._items: deque[ContainerInput] = deque()
        self._bytes = 0
        self._killed = False
        self._over = False  # it takes no more
        self._given = asyncio.Event()
        self._taken = asyncio.Event()
        self._outputs: asyncio.Queue[StepOutput | None] = asyncio.Queue(_WAITING)
        self._error: SampanError | None = None

    async def give(self, item: ContainerInput) -> None:
        """See ``executor.protocol.ContainerProcess``."""
        while self._bytes > _MAX_GIVEN_BYTES and not (self._killed or self.ended.is_set()):
            self._taken.clear()
            await self._taken.wait()
        self._items.append(item)
        self._bytes += len(item) if isinstance(item, bytes) else 0
        self._given.set()

    def kill(self) -> None:
        """Have it killed, whatever else it was given."""
        self._killed = True
        self._given.set()
        self._taken.set()

    async def _input(self) -> StepInput:
        while not self._killed:
            if self._items:
                item = self._items.popleft()
                self._bytes -= len(item) if isinstance(item, bytes) else 0
                self._taken.set()
                yield item
                continue
            if self._over:
                return
            self._given.clear()
            await self._given.wait()
        yield StepSignal(signal.SIGKILL)

    async def outputs(self) -> AsyncGenerator[StepOutput, None]:
        """See ``executor.protocol.ContainerProcess``."""
        self.began = True
        reading = asyncio.create_task(self._read(), name=f"process {self.spec.id}")
        try:
            while (output := await self._outputs.get()) is not None:
                yield output
            if self._error is not None:
                raise self._error
        finally:
            await to_the_end(self._leave(reading))

    async def _read(self) -> None:
        try:
            async with aclosing(self._steps.run(self.spec, self._input())) as outputs:
                async for output in outputs:
                    if isinstance(output, StepStarted):
                        self.started.set()
                    if isinstance(output, StepExit):
                        self._leave_input()
                    if not self._killed or isinstance(output, StepExit):
                        await self._outputs.put(output)
        except SampanError as error:
            self._error = error
        finally:
            self._leave_input()
            self.started.set()
            self.ended.set()
            self._taken.set()
        await self._outputs.put(None)

    def _leave_input(self) -> None:
        """Let the input end: the call that takes it waits for that."""
        self._over = True
        self._given.set()

    async def _leave(self, reading: "asyncio.Task[None]") -> None:
        """End it if it runs, and return when nothing is left of it."""
        if not reading.done():
            self.kill()
            draining = asyncio.create_task(self._drain(), name="drain a process")
            await asyncio.wait((reading,), timeout=_KILLED_S)
            draining.cancel()
            await asyncio.gather(draining, return_exceptions=True)
        reading.cancel()
        for result in await asyncio.gather(reading, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("a process beside a build has failed", process=self.spec.id, error=repr(result))

    async def _drain(self) -> None:
        while await self._outputs.get() is not None:
            pass


class StepContainer:
    """Satisfies ``executor.protocol.Container``; ``close`` it."""

    def __init__(
        self,
        steps: Steps,
        spec: StepSpec,
        environment: Callable[[Program], Awaitable[tuple[str, ...]]],
        reach: Callable[[], Awaitable[None]],
        readable: Callable[[], Sequence[Readable | None]],
    ) -> None:
        """``spec`` is what the first process's is but for the process."""
        self._readable = readable
        self._steps = steps
        self._spec = spec
        self._environment = environment
        self._reach = reach
        self._processes: list[ContainerProcess] = []
        self._closed = False

    async def start(self, program: Program) -> ContainerProcess:
        """See ``executor.protocol.Container``."""
        process = StepProcess(
            program.args,
            await self._environment(program),
            program.cwd,
            program.user,
            tty=program.tty,
            open_stdin=program.stdin,
        )
        await self._reach()
        spec = replace(self._spec, id=uuid.uuid4().hex, process=process, security=program.security)
        if self._closed:
            raise ConflictError("the container was released")
        first = self._processes[0] if self._processes else None
        if first is not None:
            spec = StepSpec(spec.id, process, "", security=program.security, inside=first.spec.id)
        made = ContainerProcess(self._steps, spec)
        self._processes.append(made)
        if first is not None:
            await first.started.wait()
            if first.ended.is_set():
                raise ConflictError("the container's first process has ended")
        return made

    def files(self, mount: int) -> Readable:
        """See ``executor.protocol.Container``."""
        several = self._readable()
        if not 0 <= mount < len(several):
            raise NotFoundError(f"mount index {mount} is out of bounds ({len(several)} available)")
        found = several[mount]
        if found is None:
            raise NotFoundError(f"mountable {mount} not found")
        return found

    async def close(self) -> None:
        """Kill whatever runs, and return when that is over."""
        self._closed = True
        running = [each for each in self._processes if not each.ended.is_set()]
        for each in running:
            each.kill()
        waiting = [asyncio.create_task(each.ended.wait()) for each in running if each.began]
        if waiting:
            _, late = await asyncio.wait(waiting, timeout=_KILLED_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
