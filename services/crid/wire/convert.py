"""CRI's messages as values and back."""

from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message

from crid.containers.model import Record
from crid.model import config, security
from sampan.api.cri.v1 import config_pb2 as pb
from sampan.api.cri.v1 import security_pb2 as security_pb
from sampan.client.convert.codec import Codec
from sampan.errors import InvalidArgumentError

M = TypeVar("M", bound=Message)

_MAPPING: Final = Codec(security.IDMapping, security_pb.IDMapping)
_USERNS: Final = Codec(security.UserNamespace, security_pb.UserNamespace, nested=[_MAPPING])
NAMESPACES: Final = Codec(security.NamespaceOption, security_pb.NamespaceOption, nested=[_USERNS])
_NUMBER: Final = Codec(security.Number, security_pb.Int64Value)
_PROFILE: Final = Codec(security.SecurityProfile, security_pb.SecurityProfile)
_SELINUX: Final = Codec(security.SELinuxOption, security_pb.SELinuxOption)
_CAPABILITY: Final = Codec(security.Capability, security_pb.Capability)
_SANDBOX_SECURITY: Final = Codec(
    security.SandboxSecurity,
    security_pb.LinuxSandboxSecurityContext,
    nested=[NAMESPACES, _SELINUX, _NUMBER, _PROFILE],
)
_CONTAINER_SECURITY: Final = Codec(
    security.ContainerSecurity,
    security_pb.LinuxContainerSecurityContext,
    nested=[NAMESPACES, _SELINUX, _NUMBER, _PROFILE, _CAPABILITY],
)

_HUGEPAGES: Final = Codec(config.HugepageLimit, pb.HugepageLimit)
RESOURCES: Final = Codec(config.Resources, pb.LinuxContainerResources, nested=[_HUGEPAGES])
POD_METADATA: Final = Codec(config.PodMetadata, pb.PodSandboxMetadata)
_WINDOWS_POD: Final = Codec(config.Windows, pb.WindowsPodSandboxConfig)
_WINDOWS: Final = Codec(config.Windows, pb.WindowsContainerConfig)
POD_CONFIG: Final = Codec(
    config.PodConfig,
    pb.PodSandboxConfig,
    nested=[
        POD_METADATA,
        Codec(config.DNSConfig, pb.DNSConfig),
        Codec(config.PortMapping, pb.PortMapping),
        Codec(config.LinuxPod, pb.LinuxPodSandboxConfig, nested=[_SANDBOX_SECURITY, RESOURCES]),
        _WINDOWS_POD,
    ],
)
CONTAINER_METADATA: Final = Codec(config.ContainerMetadata, pb.ContainerMetadata)
IMAGE_SPEC: Final = Codec(config.ImageSpec, pb.ImageSpec)
MOUNT: Final = Codec(config.Mount, pb.Mount, nested=[_MAPPING, IMAGE_SPEC])
_CONTAINER_CONFIG: Final = Codec(
    config.ContainerConfig,
    pb.ContainerConfig,
    nested=[
        CONTAINER_METADATA,
        IMAGE_SPEC,
        MOUNT,
        Codec(config.KeyValue, pb.KeyValue),
        Codec(config.Device, pb.Device),
        Codec(config.CDIDevice, pb.CDIDevice),
        Codec(config.LinuxContainer, pb.LinuxContainerConfig, nested=[RESOURCES, _CONTAINER_SECURITY]),
        _WINDOWS,
    ],
    ignored=["stop_signal"],
    local=["stop_signal"],
)


def container_config(message: pb.ContainerConfig) -> config.ContainerConfig:
    """Return what a container is asked to be. Raises InvalidArgumentError."""
    return replace(_CONTAINER_CONFIG.decode(message), stop_signal=signal_name(message.stop_signal))


def container_bytes(value: config.ContainerConfig) -> bytes:
    """Return a container's config as it is kept."""
    message = _CONTAINER_CONFIG.encode(value)
    message.stop_signal = signal_number(value.stop_signal)
    return message.SerializeToString(deterministic=True)


def container_of(data: bytes) -> config.ContainerConfig:
    """Return what ``container_bytes`` has kept. Raises ValueError, InvalidArgumentError: it is none."""
    return container_config(_parsed(pb.ContainerConfig(), data))


def pod_of(data: bytes) -> config.PodConfig:
    """Return a sandbox's config, kept as it was sent. Raises ValueError, InvalidArgumentError: it is none."""
    return POD_CONFIG.decode(_parsed(pb.PodSandboxConfig(), data))


def _parsed(message: M, data: bytes) -> M:
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    return message


def image_spec(record: Record) -> pb.ImageSpec:
    """Return the image of a container, by a name of its own."""
    said = record.config.image
    return pb.ImageSpec(
        image=record.image.name,
        annotations=said.annotations,
        user_specified_image=said.user_specified_image,
        runtime_handler=said.runtime_handler,
    )


def signal_name(number: int) -> str:
    """Return a signal's name, as kill(1) knows it; empty for the default. Raises InvalidArgumentError."""
    if number not in pb.Signal.values():
        raise InvalidArgumentError(f"stop_signal is {number}: there is no such signal")
    name = pb.Signal.Name(pb.Signal.ValueType(number)).removeprefix("SIGNAL_")
    return "" if name == "RUNTIME_DEFAULT" else name.replace("PLUS", "+").replace("MINUS", "-")


def signal_number(name: str) -> pb.Signal.ValueType:
    """Return what ``signal_name`` has made a name of; the default for what CRI has no name for."""
    if not name:
        return pb.SIGNAL_RUNTIME_DEFAULT
    wire = name if name.startswith("SIG") else f"SIG{name}"
    wire = "SIGNAL_" + wire.replace("+", "PLUS").replace("-", "MINUS")
    return pb.Signal.Value(wire) if wire in pb.Signal.keys() else pb.SIGNAL_RUNTIME_DEFAULT  # noqa: SIM118


def fill_map(made: MutableMapping[str, str], values: Mapping[str, str]) -> None:
    """Write entries into a message's map; ``update`` takes three times as long, also for none."""
    for key, value in values.items():
        made[key] = value
