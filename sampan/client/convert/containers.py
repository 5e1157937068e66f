"""Containers, their specs and states, and paths in them."""

from collections.abc import Collection, Mapping
from typing import Final

from sampan.api.runtime.v1 import archives_pb2, containers_pb2, spec_pb2
from sampan.client.convert.codec import Codec
from sampan.resource import container as nouns
from sampan.resource import container_spec as spec
from sampan.resource.container import Exit, PathStat
from sampan.resource.listing import Filters

PATH_STAT: Final = Codec(PathStat, archives_pb2.PathStat)


CONSOLE_SIZE: Final = Codec(spec.ConsoleSize, spec_pb2.ConsoleSize)
ID_MAPPING: Final = Codec(spec.IdMapping, spec_pb2.IdMapping)
RESOURCES: Final = Codec(
    spec.Resources,
    spec_pb2.Resources,
    nested=(
        Codec(spec.HugepageLimit, spec_pb2.Resources.HugepageLimit),
        Codec(spec.Ulimit, spec_pb2.Resources.Ulimit),
        Codec(spec.Device, spec_pb2.Resources.Device),
        Codec(spec.DeviceLimit, spec_pb2.Resources.DeviceLimit),
        Codec(
            spec.DeviceRequest,
            spec_pb2.Resources.DeviceRequest,
            nested=(Codec(spec.Capabilities, spec_pb2.Resources.Capabilities),),
        ),
    ),
)
RESTART_POLICY: Final = Codec(spec.RestartPolicy, spec_pb2.RestartPolicy)
ENDPOINT: Final = Codec(spec.Endpoint, spec_pb2.Endpoint)
SPEC: Final = Codec(
    spec.ContainerSpec,
    spec_pb2.ContainerSpec,
    nested=(
        Codec(spec.Process, spec_pb2.Process, nested=(CONSOLE_SIZE,), local=("own_entrypoint",)),
        Codec(spec.Mount, spec_pb2.Mount, nested=(ID_MAPPING,)),
        RESOURCES,
        Codec(spec.Security, spec_pb2.Security),
        Codec(spec.Namespaces, spec_pb2.Namespaces, nested=(ID_MAPPING,)),
        ENDPOINT,
        Codec(spec.PortBinding, spec_pb2.PortBinding),
        Codec(spec.Dns, spec_pb2.Dns),
        RESTART_POLICY,
        Codec(spec.LogConfig, spec_pb2.LogConfig),
        Codec(spec.HealthCheck, spec_pb2.HealthCheck),
        Codec(spec.ImageManifest, spec_pb2.ImageManifest),
    ),
)
CONTAINER: Final = Codec(
    nouns.ContainerDetails,
    containers_pb2.Container,
    nested=(
        SPEC,
        Codec(
            nouns.ContainerState,
            containers_pb2.ContainerState,
            local=("held",),
            nested=(
                Codec(nouns.ProcessUser, containers_pb2.ProcessUser),
                Codec(
                    nouns.Health,
                    containers_pb2.Health,
                    nested=(Codec(nouns.Probe, containers_pb2.Health.Probe),),
                ),
            ),
        ),
        Codec(
            nouns.NetworkSettings,
            containers_pb2.NetworkSettings,
            nested=(
                Codec(nouns.EndpointState, containers_pb2.EndpointState, nested=(ENDPOINT,)),
                Codec(nouns.PublishedPort, containers_pb2.PublishedPort),
            ),
        ),
        Codec(nouns.MountPoint, containers_pb2.MountPoint),
    ),
)

_CONDITIONS: Final = {one: containers_pb2.WaitContainerRequest.Condition.Value(one.name) for one in nouns.Condition}


def condition_to_proto(condition: nouns.Condition) -> "containers_pb2.WaitContainerRequest.Condition.ValueType":
    """Return what is waited for."""
    return _CONDITIONS[condition]


def condition_from_proto(number: int) -> nouns.Condition:
    """Return what is waited for."""
    return nouns.Condition[containers_pb2.WaitContainerRequest.Condition.Name(number)]  # type: ignore[arg-type]  # a plain int on the wire


def filters_to_proto(filters: Mapping[str, Collection[str]]) -> dict[str, containers_pb2.FilterValues]:
    """Return Docker's filters."""
    return {key: containers_pb2.FilterValues(values=values) for key, values in filters.items()}


def filters_from_proto(filters: Mapping[str, containers_pb2.FilterValues]) -> Filters:
    """Return Docker's filters."""
    return {key: tuple(value.values) for key, value in filters.items()}


def exit_to_proto(exit: Exit | None) -> containers_pb2.WaitContainerResponse:
    """Return how a container ended; None: it has not, and is waited for."""
    if exit is None:
        return containers_pb2.WaitContainerResponse(waiting=True)
    return containers_pb2.WaitContainerResponse(exit_code=exit.code, error=exit.error)


def exit_from_proto(message: containers_pb2.WaitContainerResponse) -> Exit | None:
    """Return how a container ended; None: it is waited for."""
    return None if message.waiting else Exit(message.exit_code, message.error)
