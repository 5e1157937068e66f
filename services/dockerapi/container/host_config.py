"""``HostConfig``: what a container may use of its host. From JSON into the typed spec, and back."""

from typing import Any, Final

from dockerapi.container import mount_specs, port_specs
from dockerapi.http.fields import INT32, UINT16, Fields
from sampan.api.runtime.v1 import spec_pb2
from sampan.errors import InvalidArgumentError

MASKED_PATHS: Final = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_DEFAULT_SHM_BYTES: Final = 64 << 20

# Limits that the services do not know. They are said to be ignored, never dropped in silence.
_IGNORED: Final = (
    "BlkioWeightDevice",
    "BlkioDeviceReadBps",
    "BlkioDeviceWriteBps",
    "BlkioDeviceReadIOps",
    "BlkioDeviceWriteIOps",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "StorageOpt",
)


def apply(host: Fields, spec: spec_pb2.ContainerSpec) -> list[str]:
    """Fill ``spec`` from a ``HostConfig``, networks and ``VolumesFrom`` excepted; return warnings.

    Raises:
        InvalidArgumentError: a value of the wrong type, or something that this engine cannot do at all.
    """
    if host.get("DeviceRequests"):
        raise InvalidArgumentError("could not select device driver: DeviceRequests are not supported by this engine")
    if (isolation := host.text("Isolation")) not in ("", "default"):
        raise InvalidArgumentError(f"invalid isolation: {isolation!r}: linux only supports 'default'")
    spec.mounts.extend(mount_specs.mounts(host))
    spec.ports.extend(port_specs.bindings(host))
    spec.publish_all_ports = host.flag("PublishAllPorts")
    spec.resources.CopyFrom(resources(host))
    spec.security.CopyFrom(_security(host))
    spec.namespaces.CopyFrom(_namespaces(host))
    spec.dns.servers.extend(host.texts("Dns"))
    spec.dns.search.extend(host.texts("DnsSearch"))
    spec.dns.options.extend(host.texts("DnsOptions"))
    spec.extra_hosts.extend(host.texts("ExtraHosts"))
    spec.sysctls.update(host.mapping("Sysctls"))
    spec.annotations.update(host.mapping("Annotations"))
    if (policy := restart_policy(host)) is not None:
        spec.restart_policy.CopyFrom(policy)
    spec.auto_remove = host.flag("AutoRemove")
    log = host.fields("LogConfig")
    spec.log.driver = log.text("Type")
    spec.log.options.update(log.mapping("Config"))
    spec.init = host.flag("Init")
    spec.runtime = host.text("Runtime")
    spec.process.additional_groups.extend(host.texts("GroupAdd"))
    return [f"{name} is not supported by this engine and was ignored" for name in _IGNORED if host.get(name)]


def resources(sent: Fields) -> spec_pb2.Resources:
    """Return the limits; ``update`` sends the same fields at the top level of its body."""
    return spec_pb2.Resources(
        memory_bytes=sent.number("Memory"),
        memory_swap_bytes=sent.number("MemorySwap"),
        memory_reservation_bytes=sent.number("MemoryReservation"),
        memory_swappiness=_swappiness(sent),
        nano_cpus=sent.number("NanoCpus"),
        cpu_shares=sent.number("CpuShares"),
        cpu_period_us=sent.number("CpuPeriod"),
        cpu_quota_us=sent.number("CpuQuota"),
        cpuset_cpus=sent.text("CpusetCpus"),
        cpuset_mems=sent.text("CpusetMems"),
        pids_limit=sent.number("PidsLimit"),
        blkio_weight=sent.number("BlkioWeight", UINT16),
        oom_kill_disable=sent.flag("OomKillDisable"),
        oom_score_adj=sent.number("OomScoreAdj", INT32),
        ulimits=[
            spec_pb2.Resources.Ulimit(name=row.text("Name"), soft=row.number("Soft"), hard=row.number("Hard"))
            for row in sent.items("Ulimits")
        ],
        devices=[
            spec_pb2.Resources.Device(
                host_path=row.text("PathOnHost"),
                container_path=row.text("PathInContainer") or row.text("PathOnHost"),
                permissions=row.text("CgroupPermissions") or "rwm",
            )
            for row in sent.items("Devices")
        ],
        device_cgroup_rules=sent.texts("DeviceCgroupRules"),
        shm_size_bytes=sent.number("ShmSize"),
        cgroup_parent=sent.text("CgroupParent"),
    )


def _swappiness(sent: Fields) -> int | None:
    value = sent.optional_number("MemorySwappiness")
    return None if value == -1 else value  # what old clients send for "not set"


def restart_policy(sent: Fields) -> spec_pb2.RestartPolicy | None:
    """Return the ``RestartPolicy``; None if absent or empty, which leaves it as it is."""
    policy = sent.fields("RestartPolicy")
    name, retries = policy.text("Name"), policy.number("MaximumRetryCount", INT32)
    return spec_pb2.RestartPolicy(name=name, maximum_retries=retries) if name or retries else None


def _security(host: Fields) -> spec_pb2.Security:
    own_paths = host.has("MaskedPaths") or host.has("ReadonlyPaths")
    return spec_pb2.Security(
        privileged=host.flag("Privileged"),
        cap_add=host.texts("CapAdd"),
        cap_drop=host.texts("CapDrop"),
        read_only_root=host.flag("ReadonlyRootfs"),
        options=host.texts("SecurityOpt"),
        own_paths=own_paths,
        masked_paths=_paths(host, "MaskedPaths", MASKED_PATHS) if own_paths else (),
        readonly_paths=_paths(host, "ReadonlyPaths", READONLY_PATHS) if own_paths else (),
    )


def _paths(host: Fields, name: str, default: tuple[str, ...]) -> list[str]:
    """Of the two lists one may be given and the other left to the default; an empty list means none."""
    return host.texts(name) if host.has(name) else list(default)


def _namespaces(host: Fields) -> spec_pb2.Namespaces:
    network = host.text("NetworkMode")
    return spec_pb2.Namespaces(
        network="bridge" if network in ("", "default") else network,
        pid=host.text("PidMode"),
        ipc=host.text("IpcMode"),
        uts=host.text("UTSMode"),
        cgroup=host.text("CgroupnsMode"),
        user=host.text("UsernsMode"),
    )


def to_json(spec: spec_pb2.ContainerSpec, sent: dict[str, Any], runtime: str) -> dict[str, Any]:
    """Return the whole ``HostConfig`` of an inspect.

    What a client sent is given back in the form it had where several forms mean the same; what the engine may have
    changed since, or completed, comes from the spec.
    """
    form = {
        "Binds": mount_specs.binds_json(spec.mounts),
        "ContainerIDFile": "",
        "PortBindings": port_specs.bindings_json(spec.ports),
        "VolumeDriver": "",
        "VolumesFrom": None,
        "ConsoleSize": [0, 0],
        "Links": None,
        "Isolation": "",
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [],
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "DeviceRequests": None,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "Cgroup": "",
    }
    kept = {key: value for key, value in sent.items() if value is not None}
    typed = _namespaces_json(spec.namespaces) | _security_json(spec.security) | resources_json(spec.resources)
    return form | kept | typed | _rest_json(spec, runtime)


def _namespaces_json(namespaces: spec_pb2.Namespaces) -> dict[str, Any]:
    return {
        "NetworkMode": namespaces.network or "bridge",
        "PidMode": namespaces.pid,
        "IpcMode": namespaces.ipc or "private",
        "UTSMode": namespaces.uts,
        "CgroupnsMode": namespaces.cgroup or "private",
        "UsernsMode": namespaces.user,
    }


def _security_json(security: spec_pb2.Security) -> dict[str, Any]:
    masked, readonly = list(MASKED_PATHS), list(READONLY_PATHS)
    if security.own_paths:
        masked, readonly = list(security.masked_paths), list(security.readonly_paths)
    return {
        "Privileged": security.privileged,
        "CapAdd": list(security.cap_add) or None,
        "CapDrop": list(security.cap_drop) or None,
        "ReadonlyRootfs": security.read_only_root,
        "SecurityOpt": list(security.options) or None,
        "MaskedPaths": None if security.privileged and not security.own_paths else masked,
        "ReadonlyPaths": None if security.privileged and not security.own_paths else readonly,
    }


def resources_json(limits: spec_pb2.Resources) -> dict[str, Any]:
    """Return the limits in Docker's names."""
    return {
        "CpuShares": limits.cpu_shares,
        "Memory": limits.memory_bytes,
        "NanoCpus": limits.nano_cpus,
        "CgroupParent": limits.cgroup_parent,
        "BlkioWeight": limits.blkio_weight,
        "CpuPeriod": limits.cpu_period_us,
        "CpuQuota": limits.cpu_quota_us,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "Devices": [
            {
                "PathOnHost": device.host_path,
                "PathInContainer": device.container_path,
                "CgroupPermissions": device.permissions,
            }
            for device in limits.devices
        ],
        "DeviceCgroupRules": list(limits.device_cgroup_rules) or None,
        "MemoryReservation": limits.memory_reservation_bytes,
        "MemorySwap": limits.memory_swap_bytes,
        "MemorySwappiness": limits.memory_swappiness if limits.HasField("memory_swappiness") else None,
        "OomKillDisable": limits.oom_kill_disable,
        "OomScoreAdj": limits.oom_score_adj,
        "PidsLimit": limits.pids_limit or None,
        "Ulimits": [{"Name": limit.name, "Hard": limit.hard, "Soft": limit.soft} for limit in limits.ulimits],
        "ShmSize": limits.shm_size_bytes or _DEFAULT_SHM_BYTES,
    }


def _rest_json(spec: spec_pb2.ContainerSpec, runtime: str) -> dict[str, Any]:
    rest: dict[str, Any] = {
        "LogConfig": {"Type": spec.log.driver or "json-file", "Config": dict(spec.log.options)},
        "RestartPolicy": {
            "Name": spec.restart_policy.name or "no",
            "MaximumRetryCount": spec.restart_policy.maximum_retries,
        },
        "AutoRemove": spec.auto_remove,
        "PublishAllPorts": spec.publish_all_ports,
        "Dns": list(spec.dns.servers),
        "DnsOptions": list(spec.dns.options),
        "DnsSearch": list(spec.dns.search),
        "ExtraHosts": list(spec.extra_hosts) or None,
        "GroupAdd": list(spec.process.additional_groups) or None,
        "Runtime": runtime,
    }
    if spec.sysctls:
        rest["Sysctls"] = dict(spec.sysctls)
    if spec.annotations:
        rest["Annotations"] = dict(spec.annotations)
    if spec.init:
        rest["Init"] = True
    return rest
