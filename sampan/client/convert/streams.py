"""Output of containers and execs, and entries of logs. Hot: spelled out, one message at a time."""

from collections.abc import AsyncIterator
from typing import Final

from sampan.api.runtime.v1 import containers_pb2, execs_pb2
from sampan.client.convert.codec import ns_to_timestamp, timestamp_ns
from sampan.client.convert.containers import CONSOLE_SIZE
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.streams import (
    Attached,
    AttachOptions,
    Detached,
    ExecStart,
    Frame,
    HandOver,
    LogBatch,
    LogEntry,
    LogQuery,
    Output,
    Stream,
)

_NUMBERS: Final = {one: containers_pb2.Frame.Stream.Value(one.name) for one in Stream}
_STREAMS: Final[dict[int, Stream]] = {number: one for one, number in _NUMBERS.items()}


def output_to_proto(output: Output) -> containers_pb2.StreamOutput:
    """Return one item of output."""
    if isinstance(output, Attached):
        return containers_pb2.StreamOutput(attached=True, tty=output.tty)
    if isinstance(output, Detached):
        return containers_pb2.StreamOutput(detached=True)
    frame, numbers = containers_pb2.Frame, _NUMBERS
    return containers_pb2.StreamOutput(frames=[frame(stream=numbers[one.stream], data=one.data) for one in output])


def output_from_proto(message: containers_pb2.StreamOutput) -> Output:
    """Return one item of output."""
    if message.attached:
        return Attached(message.tty)
    if message.detached:
        return Detached()
    streams = _STREAMS
    return [Frame(streams[frame.stream], frame.data) for frame in message.frames]


def attach_to_proto(
    container: str, options: AttachOptions, *, takes_descriptors: bool = False
) -> containers_pb2.AttachRequest:
    """Return the first message of an attachment."""
    return containers_pb2.AttachRequest(
        start=containers_pb2.AttachRequest.Start(
            container=container,
            stdin=options.stdin,
            stdout=Stream.STDOUT in options.streams,
            stderr=Stream.STDERR in options.streams,
            stream=options.live,
            logs=options.logs,
            detach_keys=options.detach_keys,
            takes_descriptors=takes_descriptors,
        )
    )


def attach_from_proto(start: containers_pb2.AttachRequest.Start, hand_over: HandOver | None = None) -> AttachOptions:
    """Return what a client attaches to; ``hand_over`` is how it is given descriptors, should it take them."""
    wanted = ((Stream.STDOUT, start.stdout), (Stream.STDERR, start.stderr))
    return AttachOptions(
        stdin=start.stdin,
        streams=frozenset(stream for stream, asked in wanted if asked),
        live=start.stream,
        logs=start.logs,
        detach_keys=start.detach_keys,
        hand_over=hand_over if start.takes_descriptors else None,
    )


def exec_start_to_proto(id: str, options: ExecStart, *, takes_descriptors: bool = False) -> execs_pb2.StartExecRequest:
    """Return the first message of the start of an exec."""
    size = options.console_size
    return execs_pb2.StartExecRequest(
        start=execs_pb2.StartExecRequest.Start(
            id=id,
            detach=options.detach,
            console_size=CONSOLE_SIZE.encode(size) if size else None,
            takes_descriptors=takes_descriptors,
        )
    )


def exec_start_from_proto(start: execs_pb2.StartExecRequest.Start, hand_over: HandOver | None = None) -> ExecStart:
    """Return how an exec is started."""
    return ExecStart(
        detach=start.detach,
        console_size=CONSOLE_SIZE.decode(start.console_size) if start.console_size.height else None,
        hand_over=hand_over if start.takes_descriptors else None,
    )


async def input_from_proto(
    requests: "AsyncIterator[containers_pb2.AttachRequest] | AsyncIterator[execs_pb2.StartExecRequest]",
) -> AsyncIterator[bytes | ConsoleSize]:
    """Yield a client's input, which follows its first message."""
    async for request in requests:
        match request.WhichOneof("input"):
            case "stdin":
                yield request.stdin
            case "resize":
                yield CONSOLE_SIZE.decode(request.resize)


def query_to_proto(container: str, query: LogQuery) -> containers_pb2.LogsRequest:
    """Return which entries of a container's log are wanted."""
    return containers_pb2.LogsRequest(
        container=container,
        stdout=query.stdout,
        stderr=query.stderr,
        follow=query.follow,
        tail=query.tail,
        since=ns_to_timestamp(query.since_ns) if query.since_ns else None,
        until=ns_to_timestamp(query.until_ns) if query.until_ns else None,
        joined=query.joined,
    )


def query_from_proto(request: containers_pb2.LogsRequest) -> LogQuery:
    """Return which entries are wanted."""
    return LogQuery(
        stdout=request.stdout,
        stderr=request.stderr,
        follow=request.follow,
        tail=request.tail if request.HasField("tail") and request.tail >= 0 else None,
        since_ns=timestamp_ns(request.since),
        until_ns=timestamp_ns(request.until),
        joined=request.joined,
    )


def logs_to_proto(batch: LogBatch) -> containers_pb2.LogsResponse:
    """Return a batch of log entries."""
    if not batch.entries:
        return containers_pb2.LogsResponse(tty=batch.tty)
    streams, times_ns, lines = zip(*batch.entries, strict=True)
    # An enumeration's member is found in a table by code written in Python; that it is this one is seen at once.
    stdout, first, second = Stream.STDOUT, _NUMBERS[Stream.STDOUT], _NUMBERS[Stream.STDERR]
    numbers = bytes([first if stream is stdout else second for stream in streams])
    return containers_pb2.LogsResponse(tty=batch.tty, streams=numbers, times_ns=times_ns, lines=lines)


def logs_from_proto(response: containers_pb2.LogsResponse) -> LogBatch:
    """Return a batch of log entries."""
    streams = map(_STREAMS.__getitem__, response.streams)
    return LogBatch(list(map(LogEntry, streams, response.times_ns, response.lines)), response.tty)
