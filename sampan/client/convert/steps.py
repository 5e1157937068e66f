"""Steps of builds: what runs, what it gets, and what comes of it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from sampan.api.runtime.v1 import containers_pb2, steps_pb2
from sampan.build import step
from sampan.build.step import StepExit, StepMount, StepOutput, StepSignal, StepSource, StepSpec, StepStarted
from sampan.client.convert.codec import Codec
from sampan.client.convert.containers import CONSOLE_SIZE, RESOURCES
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.streams import Frame, Stream

_SNAPSHOT: Final = Codec(step.SnapshotSource, steps_pb2.StepSnapshotSource)
_DIRECTORY: Final = Codec(step.DirectorySource, steps_pb2.StepDirectorySource)
_TMPFS: Final = Codec(step.TmpfsSource, steps_pb2.StepTmpfsSource)
_FILE: Final = Codec(step.FileSource, steps_pb2.StepFileSource)
_SOCKET: Final = Codec(step.SocketSource, steps_pb2.StepSocketSource)
_EXIT: Final = Codec(StepExit, steps_pb2.StepExit)
_SPEC: Final = Codec(
    StepSpec,
    steps_pb2.StepSpec,
    nested=(Codec(step.StepProcess, steps_pb2.StepProcess, nested=(CONSOLE_SIZE,)), RESOURCES),
    ignored=("mounts",),
    local=("mounts",),  # each has one of several sources, which a codec does not know
)

_NUMBERS: Final = {one: containers_pb2.Frame.Stream.Value(one.name) for one in Stream}
_STREAMS: Final[dict[int, Stream]] = {number: one for one, number in _NUMBERS.items()}


def spec_to_proto(spec: StepSpec) -> steps_pb2.RunStepRequest:
    """Return the first message of a call."""
    message = _SPEC.encode(spec)
    message.mounts.extend([_mount_to_proto(one) for one in spec.mounts])
    return steps_pb2.RunStepRequest(spec=message)


def spec_from_proto(message: steps_pb2.StepSpec) -> StepSpec:
    """Return what runs. Raises InvalidArgumentError."""
    return replace(_SPEC.decode(message), mounts=tuple([_mount_from_proto(one) for one in message.mounts]))


def _mount_to_proto(mount: StepMount) -> steps_pb2.StepMount:
    message = steps_pb2.StepMount(target=mount.target, read_only=mount.read_only)
    match mount.source:
        case step.SnapshotSource() as source:
            message.snapshot.CopyFrom(_SNAPSHOT.encode(source))
        case step.DirectorySource() as source:
            message.directory.CopyFrom(_DIRECTORY.encode(source))
        case step.TmpfsSource() as source:
            message.tmpfs.CopyFrom(_TMPFS.encode(source))
        case step.FileSource() as source:
            message.file.CopyFrom(_FILE.encode(source))
        case step.SocketSource() as source:
            message.socket.CopyFrom(_SOCKET.encode(source))
    return message


def _mount_from_proto(message: steps_pb2.StepMount) -> StepMount:
    return StepMount(message.target, _source(message), message.read_only)


def _source(message: steps_pb2.StepMount) -> StepSource:
    match message.WhichOneof("source"):
        case "snapshot":
            return _SNAPSHOT.decode(message.snapshot)
        case "directory":
            return _DIRECTORY.decode(message.directory)
        case "tmpfs":
            return _TMPFS.decode(message.tmpfs)
        case "file":
            return _FILE.decode(message.file)
        case "socket":
            return _SOCKET.decode(message.socket)
        case None:
            raise InvalidArgumentError(f"the mount at {message.target!r} of a step has no source")


def input_to_proto(item: bytes | ConsoleSize | StepSignal) -> steps_pb2.RunStepRequest:
    """Return something that a step gets."""
    match item:
        case ConsoleSize():
            return steps_pb2.RunStepRequest(resize=CONSOLE_SIZE.encode(item))
        case StepSignal():
            return steps_pb2.RunStepRequest(signal=item.number)
        case _:
            return steps_pb2.RunStepRequest(stdin=item)


async def input_from_proto(
    messages: AsyncIterator[steps_pb2.RunStepRequest],
) -> AsyncIterator[bytes | ConsoleSize | StepSignal]:
    """Yield what a step gets. Raises InvalidArgumentError for another spec."""
    async for message in messages:
        match message.WhichOneof("input"):
            case "stdin":
                yield message.stdin
            case "resize":
                yield CONSOLE_SIZE.decode(message.resize)
            case "signal":
                yield StepSignal(message.signal)
            case other:
                raise InvalidArgumentError(f"a running step gets stdin, resize or signal, not {other or 'nothing'}")


def output_to_proto(output: StepOutput) -> steps_pb2.RunStepResponse:
    """Return something that comes of a step."""
    match output:
        case Frame():
            frame = containers_pb2.Frame(stream=_NUMBERS[output.stream], data=output.data)
            return steps_pb2.RunStepResponse(frame=frame)
        case StepStarted():
            return steps_pb2.RunStepResponse(started=steps_pb2.StepStarted())
        case StepExit():
            return steps_pb2.RunStepResponse(exit=_EXIT.encode(output))


def output_from_proto(message: steps_pb2.RunStepResponse) -> StepOutput:
    """Return something that comes of a step."""
    match message.WhichOneof("output"):
        case "frame":
            return Frame(_STREAMS[message.frame.stream], message.frame.data)
        case "exit":
            return _EXIT.decode(message.exit)
        case _:
            return StepStarted()
