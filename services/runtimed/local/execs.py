"""Execs as clients are offered them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from runtimed.containers.memory_store import MemoryStore
from runtimed.execs.operations import Execs
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.exec import Exec, ExecSpec
from sampan.resource.streams import Accepted, Attached, Detached, ExecStart, Input, Output


class LocalExecs:
    """Satisfies ``resource.protocols.Execs``."""

    def __init__(self, memory: MemoryStore, execs: Execs) -> None:
        self._memory = memory
        self._execs = execs

    async def create(self, container: str, spec: ExecSpec) -> str:
        """Record a process to run; return its ID."""
        return (await self._execs.create(self._memory.find(container), spec)).id

    async def get(self, id: str) -> Exec:
        """Return one."""
        return self._execs.get(id)

    async def start(self, id: str, options: ExecStart, input: Input) -> AsyncGenerator[Accepted | Output, None]:
        """Run it, with the client connected to its streams unless detached."""
        begin = self._execs.start_detached if options.detach else self._execs.start
        running, started = begin(id, options.tty, options.console_size)
        # Clients answer their own clients by now, and need to know whether there is input.
        yield Accepted(running.exec.spec.attach_stdin)
        await started
        if options.detach:
            yield Attached()
            return
        yield Attached(running.exec.spec.tty)
        async with aclosing(self._execs.converse(running, input)) as output:
            async for frames in output:
                yield frames
        if running.detached:
            yield Detached()

    async def resize(self, id: str, size: ConsoleSize) -> None:
        """Set its terminal's size."""
        self._execs.resize(id, size)
