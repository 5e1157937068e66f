"""A container as ``sampan inspect`` prints it: Docker's key names, in Docker's order."""

from collections.abc import Iterable
from typing import Any, Final

from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.api.runtime.v1 import spec_pb2
from sampan_cli.shape.times import nanoseconds, shape_time
from sampan_cli.template.functions import ABSENT, ABSENT_LIST, NIL, NIL_LIST, NIL_MAP, GoMap

_STATUS: Final = {
    pb.ContainerState.CREATED: "created",
    pb.ContainerState.RUNNING: "running",
    pb.ContainerState.PAUSED: "paused",
    pb.ContainerState.RESTARTING: "restarting",
    pb.ContainerState.REMOVING: "removing",
    pb.ContainerState.EXITED: "exited",
    pb.ContainerState.DEAD: "dead",
}
_TYPES: Final = {spec_pb2.Mount.BIND: "bind", spec_pb2.Mount.VOLUME: "volume", spec_pb2.Mount.TMPFS: "tmpfs"}
_DEFAULT_SHM_BYTES: Final = 64 << 20


def status_name(state: pb.ContainerState) -> str:
    """Return ``running``, ``exited`` and so on."""
    return _STATUS[state.status]


def shape_container(container: pb.Container) -> dict[str, Any]:
    """Return everything that is known about a container."""
    spec = container.spec
    command = [*spec.process.entrypoint, *spec.process.cmd]
    return {
        "Id": container.id,
        "Created": shape_time(container.created),
        "Path": command[0] if command else "",
        "Args": command[1:],
        "State": _state(container.state),
        "Image": spec.image_id,
        "ResolvConfPath": container.resolv_conf_path,
        "HostnamePath": container.hostname_path,
        "HostsPath": container.hosts_path,
        "LogPath": container.log_path,
        "Name": f"/{spec.name}",
        "RestartCount": container.restart_count,
        "Driver": container.driver,
        "Platform": spec.platform or "linux",
        "ExecIDs": list(container.exec_ids) or NIL_LIST,
        "HostConfig": _host_config(container),
        "Mounts": [_mount_point(point) for point in container.mounts],
        "Config": _config(container),
        "NetworkSettings": _network_settings(container.network),
        "RootPath": container.root_path,
        "CgroupPath": container.cgroup_path,
        "SizeRw": container.size_rw_bytes if container.HasField("size_rw_bytes") else ABSENT,
    }


def _state(state: pb.ContainerState) -> dict[str, Any]:
    status = state.status
    return {
        "Status": status_name(state),
        "Running": status in (pb.ContainerState.RUNNING, pb.ContainerState.PAUSED, pb.ContainerState.RESTARTING),
        "Paused": status == pb.ContainerState.PAUSED,
        "Restarting": status == pb.ContainerState.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": status == pb.ContainerState.DEAD,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": shape_time(state.started_at),
        "FinishedAt": shape_time(state.finished_at),
        "Health": _health(state.health) if state.HasField("health") else ABSENT,
    }


def _health(health: pb.Health) -> dict[str, Any]:
    probes = [
        {
            "Start": shape_time(probe.start),
            "End": shape_time(probe.end),
            "ExitCode": probe.exit_code,
            "Output": probe.output,
        }
        for probe in health.log
    ]
    return {"Status": health.status, "FailingStreak": health.failing_streak, "Log": probes}


def _config(container: pb.Container) -> dict[str, Any]:
    spec, process = container.spec, container.spec.process
    return {
        "Hostname": spec.hostname or container.id[:12],
        "Domainname": spec.domainname,
        "User": process.user,
        "AttachStdin": process.attach_stdin,
        "AttachStdout": process.attach_stdout,
        "AttachStderr": process.attach_stderr,
        "ExposedPorts": GoMap({port: {} for port in spec.exposed_ports}),
        "Tty": process.tty,
        "OpenStdin": process.open_stdin,
        "StdinOnce": process.stdin_once,
        "Env": list(process.env),
        "Cmd": list(process.cmd) or NIL_LIST,
        "Image": spec.image,
        "Volumes": GoMap({target: {} for target in spec.anonymous_volumes}) or NIL_MAP,
        "WorkingDir": process.working_dir,
        "Entrypoint": list(process.entrypoint) or NIL_LIST,
        "Labels": GoMap(spec.labels),
        "StopSignal": spec.stop_signal,
        "StopTimeout": spec.stop_timeout.seconds if spec.HasField("stop_timeout") else ABSENT,
        "Healthcheck": _health_check(spec.health_check) if spec.health_check.test else ABSENT,
        "OnBuild": ABSENT_LIST,
        "Shell": ABSENT_LIST,
    }


def _health_check(check: spec_pb2.HealthCheck) -> dict[str, Any]:
    return {
        "Test": list(check.test),
        "Interval": nanoseconds(check.interval),
        "Timeout": nanoseconds(check.timeout),
        "StartPeriod": nanoseconds(check.start_period),
        "StartInterval": nanoseconds(check.start_interval),
        "Retries": check.retries,
    }


def _host_config(container: pb.Container) -> dict[str, Any]:
    spec = container.spec
    security, namespaces = spec.security, spec.namespaces
    return {
        "Binds": [_bind(mount) for mount in spec.mounts if mount.type != spec_pb2.Mount.TMPFS] or NIL_LIST,
        "LogConfig": {"Type": spec.log.driver or "json-file", "Config": GoMap(spec.log.options)},
        "NetworkMode": namespaces.network or "bridge",
        "PortBindings": _bindings(spec.ports),
        "RestartPolicy": {
            "Name": spec.restart_policy.name or "no",
            "MaximumRetryCount": spec.restart_policy.maximum_retries,
        },
        "AutoRemove": spec.auto_remove,
        "CapAdd": list(security.cap_add) or NIL_LIST,
        "CapDrop": list(security.cap_drop) or NIL_LIST,
        "CgroupnsMode": namespaces.cgroup or "private",
        "Dns": list(spec.dns.servers),
        "DnsOptions": list(spec.dns.options),
        "DnsSearch": list(spec.dns.search),
        "ExtraHosts": list(spec.extra_hosts) or NIL_LIST,
        "GroupAdd": list(spec.process.additional_groups) or NIL_LIST,
        "IpcMode": namespaces.ipc or "private",
        "PidMode": namespaces.pid,
        "UTSMode": namespaces.uts,
        "UsernsMode": namespaces.user,
        "Privileged": security.privileged,
        "PublishAllPorts": spec.publish_all_ports,
        "ReadonlyRootfs": security.read_only_root,
        "SecurityOpt": list(security.options) or NIL_LIST,
        "Tmpfs": GoMap({mount.target: mount.mode for mount in spec.mounts if mount.type == spec_pb2.Mount.TMPFS}),
        "Runtime": container.runtime or spec.runtime,
        "Sysctls": GoMap(spec.sysctls),
        "Annotations": GoMap(spec.annotations),
        "Init": spec.init,
        **_resources(spec.resources),
    }


def _resources(resources: spec_pb2.Resources) -> dict[str, Any]:
    return {
        "ShmSize": resources.shm_size_bytes or _DEFAULT_SHM_BYTES,
        "CpuShares": resources.cpu_shares,
        "Memory": resources.memory_bytes,
        "NanoCpus": resources.nano_cpus,
        "CgroupParent": resources.cgroup_parent,
        "BlkioWeight": resources.blkio_weight,
        "CpuPeriod": resources.cpu_period_us,
        "CpuQuota": resources.cpu_quota_us,
        "CpusetCpus": resources.cpuset_cpus,
        "CpusetMems": resources.cpuset_mems,
        "Devices": [
            {
                "PathOnHost": device.host_path,
                "PathInContainer": device.container_path,
                "CgroupPermissions": device.permissions,
            }
            for device in resources.devices
        ],
        "DeviceCgroupRules": list(resources.device_cgroup_rules) or NIL_LIST,
        "MemoryReservation": resources.memory_reservation_bytes,
        "MemorySwap": resources.memory_swap_bytes,
        "MemorySwappiness": resources.memory_swappiness if resources.HasField("memory_swappiness") else NIL,
        "OomKillDisable": resources.oom_kill_disable,
        "OomScoreAdj": resources.oom_score_adj,
        "PidsLimit": resources.pids_limit or NIL,
        "Ulimits": [{"Name": each.name, "Soft": each.soft, "Hard": each.hard} for each in resources.ulimits]
        or NIL_LIST,
    }


def _bind(mount: spec_pb2.Mount) -> str:
    parts = (mount.source, mount.target, mount.mode or ("ro" if mount.read_only else ""))
    return ":".join(part for part in parts if part)


def _bindings(ports: Iterable[spec_pb2.PortBinding]) -> GoMap:
    bindings = GoMap()
    for port in ports:
        host_port = str(port.host_port) if port.host_port else ""
        if port.host_port_end:
            host_port += f"-{port.host_port_end}"
        entry = {"HostIp": port.host_ip, "HostPort": host_port}
        bindings.setdefault(f"{port.container_port}/{port.protocol}", []).append(entry)
    return bindings


def _mount_point(point: pb.MountPoint) -> dict[str, Any]:
    shaped = {
        "Type": _TYPES[point.type],
        "Source": point.source,
        "Destination": point.target,
        "Mode": point.mode,
        "RW": point.read_write,
        "Propagation": point.propagation,
    }
    if point.name:
        shaped |= {"Name": point.name, "Driver": point.driver}
    return shaped


def _network_settings(settings: pb.NetworkSettings) -> dict[str, Any]:
    ports = GoMap()
    for port in settings.ports:
        key = f"{port.container_port}/{port.protocol}"
        if port.host_port:
            entry = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
            ports[key] = [*(ports.get(key) or []), entry]
        else:
            ports.setdefault(key, NIL_LIST)
    networks = GoMap({endpoint.network: _endpoint(endpoint) for endpoint in settings.endpoints})
    # The three at the top are the default bridge's, from the time when there was no other network.
    bridge = networks.get("bridge") or {}
    return {
        "SandboxID": settings.sandbox_id,
        "SandboxKey": settings.sandbox_path,
        "Ports": ports,
        "EndpointID": bridge.get("EndpointID", ""),
        "Gateway": bridge.get("Gateway", ""),
        "IPAddress": bridge.get("IPAddress", ""),
        "IPPrefixLen": bridge.get("IPPrefixLen", 0),
        "MacAddress": bridge.get("MacAddress", ""),
        "Networks": networks,
    }


def _endpoint(endpoint: pb.EndpointState) -> dict[str, Any]:
    requested = endpoint.requested
    return {
        "IPAMConfig": {
            key: value
            for key, value in (("IPv4Address", requested.ipv4_address), ("IPv6Address", requested.ipv6_address))
            if value
        },
        "Links": list(requested.links) or NIL_LIST,
        "Aliases": list(endpoint.aliases) or NIL_LIST,
        "MacAddress": endpoint.mac_address,
        "DriverOpts": GoMap(requested.driver_options) or NIL_MAP,
        "NetworkID": endpoint.network_id,
        "EndpointID": endpoint.endpoint_id,
        "Gateway": endpoint.gateway,
        "IPAddress": endpoint.ipv4_address,
        "IPPrefixLen": endpoint.ipv4_prefix,
        "IPv6Gateway": endpoint.ipv6_gateway,
        "GlobalIPv6Address": endpoint.ipv6_address,
        "GlobalIPv6PrefixLen": endpoint.ipv6_prefix,
        "DNSNames": list(endpoint.dns_names) or NIL_LIST,
    }
