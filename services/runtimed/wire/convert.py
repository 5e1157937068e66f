"""protobuf <-> model, for containers, execs and events.

Where both sides have a field of one name and a plain type (text, number, truth, bytes, a sequence or a mapping of
text) it is copied; everything else is spelled out.
"""

import dataclasses
import functools
import typing
from collections.abc import Hashable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from runtimed.containers.filters import Filters
from runtimed.containers.paths import ContainerPaths
from runtimed.events import Event
from runtimed.logs.k8s_format import LogEntry
from sampan.api.runtime.v1 import containers_pb2, events_pb2, execs_pb2, spec_pb2
from sampan.errors import InvalidArgumentError
from sampan.resource import container as model
from sampan.resource import container_spec
from sampan.resource.exec import Exec, ExecSpec

T = TypeVar("T")
M = TypeVar("M", bound=Message)

_PLAIN: Final = (str, int, float, bool, bytes, tuple[str, ...], Mapping[str, str])
_MAX_CONSOLE: Final = 65535
_SECOND_NS: Final = 1_000_000_000


@functools.cache
def _plain_fields(kind: Hashable, message: Hashable) -> tuple[tuple[str, bool], ...]:
    """Return the fields to copy, and of each whether it is a sequence or mapping."""
    assert isinstance(kind, type)
    assert isinstance(message, type)
    assert issubclass(message, Message)
    hints = typing.get_type_hints(kind)
    known = message.DESCRIPTOR.fields_by_name
    return tuple(
        (f.name, typing.get_origin(hints[f.name]) is not None)
        for f in dataclasses.fields(kind)
        if f.name in known and hints[f.name] in _PLAIN
    )


def _to(kind: type[M], value: Any, **others: Any) -> M:
    """Return a message with the plain fields of ``value``, and ``others`` where they are not None."""
    fields = {name: getattr(value, name) for name, _ in _plain_fields(type(value), kind)}  # type: ignore[arg-type]  # classes are hashable
    return kind(**fields, **{name: other for name, other in others.items() if other is not None})


def _from(kind: type[T], message: Message, **others: Any) -> T:
    """Return a ``kind`` with the plain fields of ``message``, and ``others``."""
    fields: dict[str, Any] = {}
    for name, collection in _plain_fields(kind, type(message)):  # type: ignore[arg-type]  # classes are hashable
        value = getattr(message, name)
        if collection:
            value = dict(value) if isinstance(value, Mapping) or hasattr(value, "items") else tuple(value)
        fields[name] = value
    return kind(**fields, **others)


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Return ``moment``; None for none."""
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment.astimezone(UTC).replace(tzinfo=None))
    return message


def timestamp_ns(time_ns: int) -> Timestamp:
    """Return a time given in nanoseconds since 1970."""
    return Timestamp(seconds=time_ns // _SECOND_NS, nanos=time_ns % _SECOND_NS)


def time_ns(message: Timestamp) -> int:
    """Return nanoseconds since 1970; 0 for an unset message."""
    return message.seconds * _SECOND_NS + message.nanos


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    total_ns = round(seconds * _SECOND_NS)
    whole = int(total_ns / _SECOND_NS)  # towards zero: both parts have one sign
    return Duration(seconds=whole, nanos=total_ns - whole * _SECOND_NS)


def _seconds(message: Duration) -> float:
    return message.seconds + message.nanos / _SECOND_NS


def filters_from_proto(filters: Mapping[str, containers_pb2.FilterValues]) -> Filters:
    """Return Docker's filters."""
    return {key: tuple(value.values) for key, value in filters.items()}


def console_size_from_proto(message: spec_pb2.ConsoleSize) -> container_spec.ConsoleSize:
    """Return a terminal's size.

    Raises:
        InvalidArgumentError: one that struct winsize does not hold.
    """
    if not (0 <= message.height <= _MAX_CONSOLE and 0 <= message.width <= _MAX_CONSOLE):
        raise InvalidArgumentError(
            f"invalid console size {message.height}x{message.width}: neither side is above {_MAX_CONSOLE}"
        )
    return _from(container_spec.ConsoleSize, message)


def _size_or_none(message: Any) -> container_spec.ConsoleSize | None:
    size = message.console_size
    return console_size_from_proto(size) if message.HasField("console_size") and (size.height or size.width) else None


def spec_from_proto(message: spec_pb2.ContainerSpec) -> container_spec.ContainerSpec:
    """Return what is asked for."""
    return _from(
        container_spec.ContainerSpec,
        message,
        process=_from(container_spec.Process, message.process, console_size=_size_or_none(message.process)),
        stop_timeout_s=_seconds(message.stop_timeout) if message.HasField("stop_timeout") else None,
        mounts=tuple(
            _from(
                container_spec.Mount, mount, type=container_spec.MountType(spec_pb2.Mount.Type.Name(mount.type).lower())
            )
            for mount in message.mounts
        ),
        resources=resources_from_proto(message.resources),
        security=_from(container_spec.Security, message.security),
        namespaces=_from(container_spec.Namespaces, message.namespaces),
        endpoints=tuple(_from(container_spec.Endpoint, endpoint) for endpoint in message.endpoints),
        ports=tuple(_from(container_spec.PortBinding, port) for port in message.ports),
        dns=_from(container_spec.Dns, message.dns),
        restart_policy=restart_policy_from_proto(message.restart_policy),
        log=_from(container_spec.LogConfig, message.log),
        health_check=_health_check(message.health_check) if message.HasField("health_check") else None,
    )


def resources_from_proto(message: spec_pb2.Resources) -> container_spec.Resources:
    """Return limits."""
    return _from(
        container_spec.Resources,
        message,
        ulimits=tuple(_from(container_spec.Ulimit, ulimit) for ulimit in message.ulimits),
        devices=tuple(_from(container_spec.Device, device) for device in message.devices),
        memory_swappiness=message.memory_swappiness if message.HasField("memory_swappiness") else None,
    )


def restart_policy_from_proto(message: spec_pb2.RestartPolicy) -> container_spec.RestartPolicy:
    """Return a restart policy."""
    return _from(container_spec.RestartPolicy, message)


def _health_check(message: spec_pb2.HealthCheck) -> container_spec.HealthCheck:
    return _from(
        container_spec.HealthCheck,
        message,
        interval_s=_seconds(message.interval),
        timeout_s=_seconds(message.timeout),
        start_period_s=_seconds(message.start_period),
        start_interval_s=_seconds(message.start_interval),
    )


def spec_to_proto(value: container_spec.ContainerSpec) -> spec_pb2.ContainerSpec:
    """Return it as a message."""
    health = value.health_check
    size = value.process.console_size
    return _to(
        spec_pb2.ContainerSpec,
        value,
        process=_to(spec_pb2.Process, value.process, console_size=size and _to(spec_pb2.ConsoleSize, size)),
        stop_timeout=_duration(value.stop_timeout_s),
        mounts=[_to(spec_pb2.Mount, mount, type=_mount_type(mount.type)) for mount in value.mounts],
        resources=_to(
            spec_pb2.Resources,
            value.resources,
            ulimits=[_to(spec_pb2.Resources.Ulimit, ulimit) for ulimit in value.resources.ulimits],
            devices=[_to(spec_pb2.Resources.Device, device) for device in value.resources.devices],
            memory_swappiness=value.resources.memory_swappiness,
        ),
        security=_to(spec_pb2.Security, value.security),
        namespaces=_to(spec_pb2.Namespaces, value.namespaces),
        endpoints=[_to(spec_pb2.Endpoint, endpoint) for endpoint in value.endpoints],
        ports=[_to(spec_pb2.PortBinding, port) for port in value.ports],
        dns=_to(spec_pb2.Dns, value.dns),
        restart_policy=_to(spec_pb2.RestartPolicy, value.restart_policy),
        log=_to(spec_pb2.LogConfig, value.log),
        health_check=health
        and _to(
            spec_pb2.HealthCheck,
            health,
            interval=_duration(health.interval_s),
            timeout=_duration(health.timeout_s),
            start_period=_duration(health.start_period_s),
            start_interval=_duration(health.start_interval_s),
        ),
    )


def _mount_type(kind: container_spec.MountType) -> int:
    return spec_pb2.Mount.Type.Value(kind.value.upper())


def container_to_proto(
    container: model.Container, paths: ContainerPaths, exec_ids: tuple[str, ...] = (), size_bytes: int | None = None
) -> containers_pb2.Container:
    """Return a container's record, with the places that its clients may look at."""
    logged = container.spec.log.driver != "none"
    return _to(
        containers_pb2.Container,
        container,
        spec=spec_to_proto(container.spec),
        created=timestamp(container.created),
        state=_state(container.state),
        network=_network(container.network),
        mounts=[_to(containers_pb2.MountPoint, mount, type=_mount_type(mount.type)) for mount in container.mounts],
        driver="overlayfs",
        log_path=str(paths.log) if logged else "",
        hostname_path=str(paths.files / "hostname"),
        hosts_path=str(paths.files / "hosts"),
        resolv_conf_path=str(paths.files / "resolv.conf"),
        exec_ids=exec_ids,
        size_rw_bytes=size_bytes,
        root_path=str(paths.root),
    )


def _state(state: model.ContainerState) -> containers_pb2.ContainerState:
    return _to(
        containers_pb2.ContainerState,
        state,
        status=containers_pb2.ContainerState.Status.Value(state.status.name),
        started_at=timestamp(state.started_at),
        finished_at=timestamp(state.finished_at),
        health=state.health and _health(state.health),
    )


def _health(health: model.Health) -> containers_pb2.Health:
    return _to(
        containers_pb2.Health,
        health,
        status=health.status.value,
        log=[
            _to(containers_pb2.Health.Probe, probe, start=timestamp(probe.start), end=timestamp(probe.end))
            for probe in health.log
        ],
    )


def _network(settings: model.NetworkSettings) -> containers_pb2.NetworkSettings:
    return _to(
        containers_pb2.NetworkSettings,
        settings,
        endpoints=[
            _to(containers_pb2.EndpointState, endpoint, requested=_to(spec_pb2.Endpoint, endpoint.requested))
            for endpoint in settings.endpoints
        ],
        ports=[_to(containers_pb2.PublishedPort, port) for port in settings.ports],
    )


_STREAMS: Final[dict[model.Stream, "containers_pb2.Frame.Stream.ValueType"]] = {
    model.Stream.STDIN: containers_pb2.Frame.STDIN,
    model.Stream.STDOUT: containers_pb2.Frame.STDOUT,
    model.Stream.STDERR: containers_pb2.Frame.STDERR,
}


def output_to_proto(frames: list[model.Frame]) -> containers_pb2.StreamOutput:
    """Return a batch of output."""
    return containers_pb2.StreamOutput(
        frames=[containers_pb2.Frame(stream=_STREAMS[frame.stream], data=frame.data) for frame in frames]
    )


def log_to_proto(entries: list[LogEntry]) -> containers_pb2.LogsResponse:
    """Return a batch of log entries."""
    response = containers_pb2.LogsResponse()
    add, stdout, out, err = (
        response.entries.add,
        model.Stream.STDOUT,
        containers_pb2.Frame.STDOUT,
        containers_pb2.Frame.STDERR,
    )
    for stream, moment_ns, line in entries:
        message = add(stream=out if stream is stdout else err, line=line)
        moment = message.time
        moment.seconds, moment.nanos = divmod(moment_ns, _SECOND_NS)
    return response


def exec_spec_from_proto(message: execs_pb2.ExecSpec) -> ExecSpec:
    """Return what to run."""
    return _from(ExecSpec, message, console_size=_size_or_none(message))


def exec_to_proto(value: Exec) -> execs_pb2.Exec:
    """Return an exec's record."""
    size = value.spec.console_size
    return execs_pb2.Exec(
        id=value.id,
        container_id=value.container_id,
        spec=_to(
            execs_pb2.ExecSpec,
            value.spec,
            container=value.container_id,
            console_size=size and _to(spec_pb2.ConsoleSize, size),
        ),
        running=value.running,
        exit_code=value.exit_code,
        pid=value.pid,
    )


def event_to_proto(event: Event) -> events_pb2.Event:
    """Return an event."""
    return _to(events_pb2.Event, event, time=timestamp_ns(event.time_ns))


def event_from_proto(message: events_pb2.Event) -> Event:
    """Return an event that another service publishes."""
    return _from(Event, message, time_ns=time_ns(message.time))
