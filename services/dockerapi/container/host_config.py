"""``HostConfig``: what a container may use of its host. From JSON into the typed spec."""

from typing import Final

from dockerapi.http.fields import INT32, UINT16, Fields
from sampan.docker.options.devices import DEVICE_LIMITS, device
from sampan.docker.options.limits import check_storage_options
from sampan.docker.options.namespaces import network_mode
from sampan.docker.options.ports import parse_host_ports, parse_port, published
from sampan.docker.options.security import MASKED_PATHS, READONLY_PATHS
from sampan.docker.views.host_config_view import LIMITS
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import (
    Capabilities,
    DeviceLimit,
    DeviceRequest,
    LogConfig,
    Namespaces,
    PortBinding,
    Resources,
    RestartPolicy,
    Security,
    Ulimit,
)

_NO_LIMITS: Final = Resources()


def check(host: Fields) -> None:
    """Raise InvalidArgumentError for what this engine cannot do at all."""
    if (isolation := host.text("Isolation")) not in ("", "default"):
        raise InvalidArgumentError(f"invalid isolation: {isolation!r}: linux only supports 'default'")
    check_storage_options(host.mapping("StorageOpt"))


def log(host: Fields) -> LogConfig:
    """Return where output is kept."""
    config = host.fields("LogConfig")
    return LogConfig(config.text("Type"), config.mapping("Config"))


def resources(sent: Fields) -> Resources:
    """Return the limits; ``update`` sends the same fields at the top level of its body."""

    def of_devices(field: str) -> tuple[DeviceLimit, ...]:
        name, number = DEVICE_LIMITS[field]
        return tuple(DeviceLimit(row.text("Path"), row.number(number, range(1 << 63))) for row in sent.items(name))

    return Resources(
        **{field: sent.plain(name, getattr(_NO_LIMITS, field)) for field, name in LIMITS.items()},
        blkio_weight_devices=of_devices("blkio_weight_devices"),
        device_read_bps=of_devices("device_read_bps"),
        device_write_bps=of_devices("device_write_bps"),
        device_read_iops=of_devices("device_read_iops"),
        device_write_iops=of_devices("device_write_iops"),
        memory_swappiness=_swappiness(sent),
        pids_limit=sent.number("PidsLimit"),
        blkio_weight=sent.number("BlkioWeight", UINT16),
        oom_score_adj=sent.number("OomScoreAdj", INT32),
        ulimits=tuple(
            Ulimit(name=row.text("Name"), soft=row.number("Soft"), hard=row.number("Hard"))
            for row in sent.items("Ulimits")
        ),
        devices=tuple(
            device(row.text("PathOnHost"), row.text("PathInContainer"), row.text("CgroupPermissions"))
            for row in sent.items("Devices")
        ),
        device_cgroup_rules=tuple(sent.texts("DeviceCgroupRules")),
        shm_size_bytes=sent.number("ShmSize"),
        device_requests=tuple(_device_request(row) for row in sent.items("DeviceRequests")),
    )


def _device_request(sent: Fields) -> DeviceRequest:
    capabilities = sent.get("Capabilities") or []
    if not isinstance(capabilities, list) or not all(
        isinstance(each, list) and all(isinstance(name, str) for name in each) for each in capabilities
    ):
        raise InvalidArgumentError("DeviceRequests: Capabilities must be a list of lists of strings")
    return DeviceRequest(
        driver=sent.text("Driver"),
        count=sent.number("Count"),
        device_ids=tuple(sent.texts("DeviceIDs")),
        capabilities=tuple(Capabilities(tuple(each)) for each in capabilities),
        options=sent.mapping("Options"),
    )


def _swappiness(sent: Fields) -> int | None:
    value = sent.optional_number("MemorySwappiness")
    return None if value == -1 else value  # what old clients send for "not set"


def restart_policy(sent: Fields) -> RestartPolicy | None:
    """Return the ``RestartPolicy``; None if absent or empty, which leaves it as it is."""
    policy = sent.fields("RestartPolicy")
    name, retries = policy.text("Name"), policy.number("MaximumRetryCount", INT32)
    return RestartPolicy(name=name, maximum_retries=retries) if name or retries else None


def security(host: Fields) -> Security:
    """Return what the container may do to the host."""
    own_paths = host.has("MaskedPaths") or host.has("ReadonlyPaths")
    return Security(
        privileged=host.flag("Privileged"),
        cap_add=tuple(host.texts("CapAdd")),
        cap_drop=tuple(host.texts("CapDrop")),
        read_only_root=host.flag("ReadonlyRootfs"),
        options=tuple(host.texts("SecurityOpt")),
        own_paths=own_paths,
        masked_paths=_paths(host, "MaskedPaths", MASKED_PATHS) if own_paths else (),
        readonly_paths=_paths(host, "ReadonlyPaths", READONLY_PATHS) if own_paths else (),
    )


def _paths(host: Fields, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Of the two lists one may be given and the other left to the default; an empty list means none."""
    return tuple(host.texts(name)) if host.has(name) else default


def namespaces(host: Fields) -> Namespaces:
    """Return which namespaces are shared with whom."""
    return Namespaces(
        network=network_mode(host.text("NetworkMode")),
        pid=host.text("PidMode"),
        ipc=host.text("IpcMode"),
        uts=host.text("UTSMode"),
        cgroup=host.text("CgroupnsMode"),
        user=host.text("UsernsMode"),
    )


def ports(host: Fields) -> tuple[PortBinding, ...]:
    """Return ``PortBindings``: ``{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}``.

    A port with an empty list gets one free host port, as with Docker.
    """
    result = []
    for key, rows in host.lists("PortBindings"):
        port, protocol = parse_port(key)
        for row in rows or [Fields({}, "")]:
            host_ports = parse_host_ports(row.text("HostPort"))
            result.append(published(port, protocol, row.text("HostIp"), host_ports))
    return tuple(result)
