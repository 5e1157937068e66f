"""``gateway.v0``: frontends that are images. Each runs in a container of its own, and asks on its stdin and stdout.

Reference: moby/buildkit, ``frontend/gateway/grpcclient``, by which such programs are made.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import Final

from buildd.build.bridge import ImageConfigs
from buildd.build.gateway import BuildGateway
from buildd.build.protocol import Gateway, Worker
from buildd.executor.protocol import ContainerProcess, Executor, Program
from buildd.llb.ops import ExecOp, Metadata, Mount, NetMode, Node, Process, SourceOp
from buildd.protocol import ImageQuery, ProcessError, Result, StepContext
from buildd.solver.build import Build
from sampan.build.step import StepExit
from sampan.dockerfile.words import quoted
from sampan.errors import InvalidArgumentError, ResourceExhaustedError, SampanError, UnimplementedError
from sampan.oci.config_document import parse_config
from sampan.oci.image_config import RunConfig
from sampan.oci.platform import host_platform
from sampan.oci.reference import parse_reference
from sampan.resource.streams import Frame, Stream
from sampan.wire.http2.protocol import ByteStream

_MAX_RUNNING: Final = 16  # of one build: a frontend that asks for itself would never end
_ENDS_S: Final = 10.0  # a frontend that has said its last word
_MAX_ENV_BYTES: Final = 128 << 10  # the kernel's bound of one variable

_CAPABILITIES: Final = "moby.buildkit.frontend.caps"
_NO_NETWORK: Final = "moby.buildkit.frontend.network.none"
_INPUTS: Final = "moby.buildkit.frontend.inputs"
_TRUE: Final = frozenset(("1", "t", "T", "TRUE", "true", "True"))

# Answers what is asked on a connection, to its end, as the gateway of that name.
ServeGateway = Callable[[ByteStream, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class FrontendParts:
    """What images' frontends are run with."""

    executor: Executor
    serve: ServeGateway
    worker: Callable[[], Worker]


class ImageFrontends:
    """Those of one build."""

    def __init__(
        self,
        parts: FrontendParts,
        run: Build,
        images: ImageConfigs,
        session: str,
        gateway: Callable[[Mapping[str, bytes]], BuildGateway],
        named: Callable[[Gateway], AbstractContextManager[str]],
    ) -> None:
        """``gateway`` makes one for a frontend with these inputs; ``named`` makes it known by a name while it lasts."""
        self._parts = parts
        self._run = run
        self._images = images
        self._session = session
        self._gateway = gateway
        self._named = named
        self._running = 0

    async def build(self, attributes: Mapping[str, str], inputs: Mapping[str, bytes]) -> Result:
        """Have the image ``source`` make a result.

        Raises:
            InvalidArgumentError: no image is named, or it does not say what to run.
            UnimplementedError: the image cannot do what is asked of it.
            ResourceExhaustedError: too many frontends run for this build.
            SampanError: what the frontend has ended with, or what its image cannot be had for.
        """
        source = attributes.get("source", "")
        if not source:
            raise InvalidArgumentError("no source specified for gateway")
        reference = str(parse_reference(source).with_default_tag())
        found = await self._images.resolve(ImageQuery(reference, host_platform()))
        config = parse_config(found.config, source).run
        _check_capabilities(config, attributes, inputs)
        pinned = found.digest is None or parse_reference(found.reference).digest is not None
        identifier = f"docker-image://{found.reference}" + ("" if pinned else f"@{found.digest}")
        node = Node(SourceOp(identifier), platform=host_platform(), metadata=Metadata(identifier))
        root = await self._run.solve(node.output())
        program = Program(
            config.entrypoint or ("/run",),
            (*config.env, *self._environment(attributes)),
            config.working_dir or "/",
            stdin=True,
        )
        network = NetMode.NONE if config.labels.get(_NO_NETWORK) in _TRUE else NetMode.SANDBOX
        op = ExecOp(Process(program.args), (Mount("/", input=0),), network)
        if self._running >= _MAX_RUNNING:
            raise ResourceExhaustedError(f"{source}: a build has {_MAX_RUNNING} frontends at work at most")
        self._running += 1
        try:
            async with (
                self._run.step(f"[frontend] {source}") as context,
                self._parts.executor.container(op, [root], context) as container,
            ):
                return await self._result(await container.start(program), program, inputs, context)
        finally:
            self._running -= 1

    def _environment(self, attributes: Mapping[str, str]) -> Sequence[str]:
        options = [f"BUILDKIT_FRONTEND_OPT_{number}={name}={value}" for number, (name, value) in
                   enumerate(sorted(attributes.items()))]  # fmt: skip
        for text in options:
            if len(text.encode()) >= _MAX_ENV_BYTES or "\0" in text:
                name = text.split("=", 2)[1]
                raise InvalidArgumentError(
                    f"frontend attribute {name!r} is too long, or no text, for a frontend's image"
                )
        return [
            *options,
            f"BUILDKIT_SESSION_ID={self._session}",
            f"BUILDKIT_WORKERS={json.dumps([_worker(self._parts.worker())], separators=(',', ':'))}",
            "BUILDKIT_EXPORTEDPRODUCT=buildkit",
        ]

    async def _result(
        self, process: ContainerProcess, program: Program, inputs: Mapping[str, bytes], context: StepContext
    ) -> Result:
        """Return what the process says; its error goes before how it ended, and that before its result."""
        gateway = self._gateway(inputs)
        stream = _ProcessStream(process, context)
        try:
            with self._named(gateway) as name:
                returned = asyncio.create_task(gateway.returned(), name="a frontend's result")
                serving = asyncio.ensure_future(self._parts.serve(stream, name))
                try:
                    await asyncio.wait((returned, serving), return_when=asyncio.FIRST_COMPLETED)
                    if returned.done():
                        await asyncio.wait((serving,), timeout=_ENDS_S)
                finally:
                    await stream.close()
                    for task in (returned, serving):
                        task.cancel()
                    await asyncio.gather(returned, serving, return_exceptions=True)
            result = await gateway.returned() if gateway.ended else None
        finally:
            await gateway.close()
        if stream.error is not None:
            raise stream.error
        if stream.code:
            words = quoted(" ".join(program.args))
            raise ProcessError(f"process {words} did not complete successfully: exit code: {stream.code}", stream.code)
        if result is None:
            raise InvalidArgumentError("no result for incomplete build")
        return result


class _ProcessStream:
    """A process's stdin and stdout as a ``ByteStream``; what it says on stderr is shown."""

    def __init__(self, process: ContainerProcess, context: StepContext) -> None:
        self.code = 0
        self.error: SampanError | None = None
        self._process = process
        self._context = context
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(4)
        self._closed = False
        self._ended = False
        self._reading = asyncio.create_task(self._read_all(), name="read a frontend")

    async def _read_all(self) -> None:
        try:
            async with aclosing(self._process.outputs()) as outputs:
                async for output in outputs:
                    if isinstance(output, StepExit):
                        self.code = output.code
                    elif isinstance(output, Frame) and output.stream is Stream.STDOUT:
                        await self._pieces.put(output.data)
                    elif isinstance(output, Frame):
                        self._context.log(output.data, output.stream.value)
        except SampanError as error:
            self.error = error
        await self._pieces.put(b"")

    async def read(self) -> bytes:
        """See ``ByteStream``."""
        if self._ended:
            return b""
        data = await self._pieces.get()
        self._ended = not data
        return data

    async def write(self, data: bytes) -> None:
        """See ``ByteStream``."""
        if self._closed or self._reading.done():
            raise BrokenPipeError("the frontend has ended")
        if data:
            await self._process.give(data)

    async def close(self) -> None:
        """End the process, if it runs, and return when that is over."""
        if self._closed:
            return
        self._closed = True
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        if not self._ended:
            self._ended = True
            if self._pieces.empty():
                self._pieces.put_nowait(b"")


def _check_capabilities(config: RunConfig, attributes: Mapping[str, str], inputs: Mapping[str, bytes]) -> None:
    known = set(_names(config.labels.get(_CAPABILITIES, "")))
    wanted = _names(attributes.get("frontend.caps", ""))
    for name in (*wanted, *([_INPUTS] if inputs else [])):
        if name not in known:
            raise UnimplementedError(f"unsupported frontend capability {name}")


def _names(text: str) -> Sequence[str]:
    return [name for part in text.split(",") if (name := part.strip().partition("+")[0])]


def _worker(worker: Worker) -> dict[str, object]:
    platforms = [
        {"architecture": each.architecture, "os": each.os, **({"variant": each.variant} if each.variant else {})}
        for each in worker.platforms
    ]
    version = {"package": "sampan", "version": worker.version, "revision": ""}
    return {"id": worker.id, "labels": dict(worker.labels), "platforms": platforms, "buildkitVersion": version}
