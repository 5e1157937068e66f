"""``HostConfig`` of an inspect: what a container may use of its host."""

from collections.abc import Iterable, Mapping
from typing import Final

from sampan.docker.options.devices import CDI, DEVICE_LIMITS
from sampan.docker.options.security import MASKED_PATHS, READONLY_PATHS
from sampan.resource.container_spec import (
    ContainerSpec,
    DeviceRequest,
    Mount,
    MountType,
    Namespaces,
    PortBinding,
    Resources,
    Security,
)

_DEFAULT_SHM_BYTES: Final = 64 << 20

# Limits that are shown as they were sent, by their fields in ``Resources``: dockerapi reads them by this table, too. A
# number takes 64 bits in it; one that has fewer on its way is read in ``dockerapi/container/host_config.py``.
LIMITS: Final[Mapping[str, str]] = {
    "memory_bytes": "Memory",
    "memory_swap_bytes": "MemorySwap",
    "memory_reservation_bytes": "MemoryReservation",
    "nano_cpus": "NanoCpus",
    "cpu_shares": "CpuShares",
    "cpu_period_us": "CpuPeriod",
    "cpu_quota_us": "CpuQuota",
    "cpuset_cpus": "CpusetCpus",
    "cpuset_mems": "CpusetMems",
    "cpu_realtime_period_us": "CpuRealtimePeriod",
    "cpu_realtime_runtime_us": "CpuRealtimeRuntime",
    "oom_kill_disable": "OomKillDisable",
    "cgroup_parent": "CgroupParent",
}


def to_json(spec: ContainerSpec, sent: dict[str, object], runtime: str) -> dict[str, object]:
    """Return the whole ``HostConfig`` of an inspect.

    What a client sent is given back in the form it had where several forms mean the same; what the engine may have
    changed since, or completed, comes from the spec.
    """
    form: dict[str, object] = {
        "Binds": binds_json(spec.mounts),
        "ContainerIDFile": "",
        "PortBindings": bindings_json(spec.ports),
        "VolumeDriver": spec.volume_driver,
        "VolumesFrom": None,
        "ConsoleSize": [0, 0],
        "Links": None,
        "Isolation": "",
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "Cgroup": "",
    }
    if sent:
        form["Binds"] = None  # unless they were sent: what is asked for in ``Mounts`` is there
    else:
        further = {"Mounts": mounts_json(spec.mounts), "Tmpfs": tmpfs_json(spec.mounts)}
        form |= {name: told for name, told in further.items() if told}
    kept = {key: value for key, value in sent.items() if value is not None}
    typed = _namespaces_json(spec.namespaces) | _security_json(spec.security) | resources_json(spec.resources)
    return form | kept | typed | _rest_json(spec, runtime)


def _namespaces_json(namespaces: Namespaces) -> dict[str, object]:
    return {
        "NetworkMode": namespaces.network or "bridge",
        "PidMode": namespaces.pid,
        "IpcMode": namespaces.ipc or "private",
        "UTSMode": namespaces.uts,
        "CgroupnsMode": namespaces.cgroup or "private",
        "UsernsMode": namespaces.user,
    }


def _security_json(security: Security) -> dict[str, object]:
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


def resources_json(limits: Resources) -> dict[str, object]:
    """Return the limits in Docker's names."""
    of_devices = {
        name: [{"Path": limit.path, number: limit.value} for limit in getattr(limits, field)]
        for field, (name, number) in DEVICE_LIMITS.items()
    }
    return (
        of_devices
        | {name: getattr(limits, field) for field, name in LIMITS.items()}
        | {
            "BlkioWeight": limits.blkio_weight,
            "Devices": [
                {
                    "PathOnHost": device.host_path,
                    "PathInContainer": device.container_path,
                    "CgroupPermissions": device.permissions,
                }
                for device in limits.devices
            ],
            "DeviceRequests": [_request_json(request) for request in limits.device_requests] or None,
            "DeviceCgroupRules": list(limits.device_cgroup_rules) or None,
            "MemorySwappiness": limits.memory_swappiness,
            "OomScoreAdj": limits.oom_score_adj,
            "PidsLimit": limits.pids_limit if limits.pids_limit > 0 else None,
            "Ulimits": [{"Name": limit.name, "Hard": limit.hard, "Soft": limit.soft} for limit in limits.ulimits],
            "ShmSize": limits.shm_size_bytes or _DEFAULT_SHM_BYTES,
        }
    )


def _request_json(request: DeviceRequest) -> dict[str, object]:
    return {
        "Driver": request.driver,
        "Count": request.count,
        "DeviceIDs": list(request.device_ids) or None,
        "Capabilities": [list(each.names) for each in request.capabilities] or None,
        "Options": dict(request.options) or (None if request.driver == CDI else {}),
    }


def _rest_json(spec: ContainerSpec, runtime: str) -> dict[str, object]:
    rest: dict[str, object] = {
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
    if spec.init is not None:
        rest["Init"] = spec.init
    return rest


def binds_json(asked: Iterable[Mount]) -> list[str] | None:
    """Return binds and named volumes in the form of ``Binds``; null without any."""
    result = []
    for mount in asked:
        if mount.type in (MountType.BIND, MountType.VOLUME) and mount.source and not mount.subpath:
            mode = mount.mode or ("ro" if mount.read_only else "")
            result.append(":".join(part for part in (mount.source, mount.target, mode) if part))
    return result or None


def mounts_json(asked: Iterable[Mount]) -> list[dict[str, object]]:
    """Return what ``Binds`` and ``Tmpfs`` cannot say, in the form of ``Mounts``."""
    result: list[dict[str, object]] = []
    row: dict[str, object]
    for mount in asked:
        if mount.type is MountType.TMPFS and not _is_plain(mount):
            sized = {"SizeBytes": mount.tmpfs_size_bytes, "Mode": mount.tmpfs_mode}
            given: dict[str, object] = {name: number for name, number in sized.items() if number}
            if mount.options:
                given["Options"] = [option.split("=", 1) for option in mount.options]
            row = {"Type": mount.type.value, "Target": mount.target} | ({"TmpfsOptions": given} if given else {})
            result.append(row | ({"ReadOnly": True} if mount.read_only else {}))
        elif mount.type is MountType.IMAGE or mount.subpath:
            row = {"Type": mount.type.value, "Source": mount.source, "Target": mount.target}
            if mount.read_only:
                row["ReadOnly"] = True
            if mount.subpath:
                options = "ImageOptions" if mount.type is MountType.IMAGE else "VolumeOptions"
                row[options] = {"Subpath": mount.subpath}
            result.append(row)
    return result


def tmpfs_json(asked: Iterable[Mount]) -> dict[str, str]:
    """Return file systems in memory in the form of ``Tmpfs``: their options by where they are."""
    return {mount.target: ",".join(mount.options) for mount in asked if _is_plain(mount)}


def _is_plain(mount: Mount) -> bool:
    """Whether a mount is one of those that ``Tmpfs`` can say."""
    sized = mount.tmpfs_size_bytes or mount.tmpfs_mode or mount.read_only
    return mount.type is MountType.TMPFS and not sized


def bindings_json(ports: Iterable[PortBinding]) -> dict[str, list[dict[str, str]]]:
    """Return what was asked for in the shape of ``HostConfig.PortBindings``."""
    result: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        host = str(port.host_port) if port.host_port else ""
        if port.host_port_end:
            host += f"-{port.host_port_end}"
        key = f"{port.container_port}/{port.protocol or 'tcp'}"
        result.setdefault(key, []).append({"HostIp": port.host_ip, "HostPort": host})
    return result
