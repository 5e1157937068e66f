"""A container in the shapes that Docker's clients know: of ``inspect``, and of a list."""

import json
import posixpath
from collections.abc import Iterable
from typing import Any, Final

from sampan.docker.durations import duration_ns, human_duration
from sampan.docker.times import rfc3339
from sampan.docker.views import host_config_view
from sampan.docker.views.network_view import endpoint_json
from sampan.resource.container import (
    ALIVE,
    ContainerDetails,
    ContainerState,
    EndpointState,
    HealthStatus,
    MountPoint,
    NetworkSettings,
    PublishedPort,
    Status,
)
from sampan.resource.container_spec import ContainerSpec, Endpoint, HealthCheck, MountType

Version = tuple[int, int]  # of Docker's API

COMMAND_LINE: Final[Version] = (1, 50)  # in whose shape the command line shows things, as docker 28 does

_CONNECTED: Final = frozenset({Status.RUNNING, Status.PAUSED})


def inspect_json(container: ContainerDetails, version: Version = COMMAND_LINE) -> dict[str, Any]:
    """Return everything that GET /containers/{id}/json says, but ``SizeRootFs``, which the snapshotter knows."""
    spec = container.spec
    sent = sent_json(spec)
    args = [*spec.process.entrypoint, *spec.process.cmd]
    result: dict[str, Any] = {
        "Id": container.id,
        "Created": rfc3339(container.created),
        "Path": args[0] if args else "",
        "Args": args[1:],
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
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": list(container.exec_ids) or None,
        "HostConfig": host_config_view.to_json(spec, sent.get("HostConfig") or {}, spec.runtime or container.runtime)
        | {"Links": list(container.links) or None},
        "GraphDriver": _graph_driver(container),
        "Mounts": points_json(container),
        "Config": _config(container, sent, version),
        "NetworkSettings": _network_settings(container, version),
    }
    if version < (1, 42):
        result["HostConfig"] |= {"KernelMemory": 0, "KernelMemoryTCP": 0}  # which no kernel since 5.16 limits
    if version >= (1, 52):
        result["Storage"] = {"RootFS": {"Snapshot": {"Name": container.driver}}}
    result |= _manifest(spec, version)
    if container.size_rw_bytes is not None:
        result["SizeRw"] = container.size_rw_bytes
    return result


def sent_json(spec: ContainerSpec) -> dict[str, Any]:
    """Return what the client sent at create; empty for a container that no Docker client made."""
    if not spec.docker:
        return {}
    value = json.loads(spec.docker)
    return value if isinstance(value, dict) else {}


def _state(state: ContainerState) -> dict[str, Any]:
    status = state.status
    result: dict[str, Any] = {
        "Status": status.value,
        "Running": status in ALIVE,
        "Paused": status is Status.PAUSED,
        "Restarting": status is Status.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": status is Status.DEAD,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": rfc3339(state.started_at),
        "FinishedAt": rfc3339(state.finished_at),
    }
    if state.health is not None:
        result["Health"] = {
            "Status": state.health.status.value,
            "FailingStreak": state.health.failing_streak,
            "Log": [
                {
                    "Start": rfc3339(probe.start),
                    "End": rfc3339(probe.end),
                    "ExitCode": probe.exit_code,
                    "Output": probe.output,
                }
                for probe in state.health.log
            ],
        }
    return result


def _config(container: ContainerDetails, sent: dict[str, Any], version: Version) -> dict[str, Any]:
    spec, process = container.spec, container.spec.process
    config: dict[str, Any] = {
        "Hostname": spec.hostname or ("" if spec.namespaces.network == "host" else container.id[:12]),
        "Domainname": spec.domainname,
        "User": process.user,
        "AttachStdin": process.attach_stdin,
        "AttachStdout": process.attach_stdout,
        "AttachStderr": process.attach_stderr,
    }
    if spec.exposed_ports:
        config["ExposedPorts"] = {port: {} for port in spec.exposed_ports}
    config |= {
        "Tty": process.tty,
        "OpenStdin": process.open_stdin,
        "StdinOnce": process.stdin_once,
        "Env": list(process.env),
        "Cmd": list(process.cmd) or None,
    }
    if spec.health_check is not None:
        config["Healthcheck"] = health_check_json(spec.health_check)
    config |= {
        "Image": spec.image,
        "Volumes": {target: {} for target in spec.anonymous_volumes} or None,
        "WorkingDir": process.working_dir,
        "Entrypoint": list(process.entrypoint) or None,
        "OnBuild": None,
        "Labels": dict(spec.labels),
    }
    mode = spec.namespaces.network or "bridge"
    main = next((one.requested for one in container.network.endpoints if mode in (one.network, one.network_id)), None)
    if version >= (1, 52):
        del config["OnBuild"]
    elif main and main.mac_address:
        config["MacAddress"] = main.mac_address
    if spec.stop_signal:
        config["StopSignal"] = spec.stop_signal
    if spec.stop_timeout_s is not None:
        config["StopTimeout"] = int(spec.stop_timeout_s)
    return config | {key: sent[key] for key in ("NetworkDisabled", "Shell", "ArgsEscaped") if sent.get(key)}


def health_check_json(check: HealthCheck) -> dict[str, Any]:
    """Return a health check with durations in nanoseconds, without what is not set."""
    result: dict[str, Any] = {"Test": list(check.test)} if check.test else {}
    durations = {
        "Interval": duration_ns(check.interval_s),
        "Timeout": duration_ns(check.timeout_s),
        "StartPeriod": duration_ns(check.start_period_s),
        "StartInterval": duration_ns(check.start_interval_s),
        "Retries": check.retries,
    }
    return result | {key: value for key, value in durations.items() if value}


def _graph_driver(container: ContainerDetails) -> dict[str, Any]:
    facts = {"MergedDir": container.root_path} if container.root_path else {}
    return {"Data": dict(container.graph_data) | facts or None, "Name": container.driver}


def _network_settings(container: ContainerDetails, version: Version) -> dict[str, Any]:
    network = live_network(container)
    shown = {
        "SandboxID": network.sandbox_id,
        "SandboxKey": network.sandbox_path,
        "Ports": published_json(network.ports),
        "Networks": endpoints_json(container, network, version),
    }
    if version >= (1, 52):
        return shown
    bridge = next((one for one in network.endpoints if one.network == "bridge"), _NOWHERE)
    return {
        "Bridge": "",
        **{name: shown[name] for name in ("SandboxID", "SandboxKey", "Ports")},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        # The default bridge's endpoint is repeated here, from the days when there was no other network.
        "EndpointID": bridge.endpoint_id,
        "Gateway": bridge.gateway,
        "GlobalIPv6Address": bridge.ipv6_address,
        "GlobalIPv6PrefixLen": bridge.ipv6_prefix,
        "IPAddress": bridge.ipv4_address,
        "IPPrefixLen": bridge.ipv4_prefix,
        "IPv6Gateway": bridge.ipv6_gateway,
        "MacAddress": bridge.mac_address,
        "Networks": shown["Networks"],
    }


def live_network(container: ContainerDetails) -> NetworkSettings:
    """Return how the container is connected: with addresses and ports only while it runs, as Docker shows it."""
    if container.state.status in _CONNECTED:
        return container.network
    endpoints = tuple(
        EndpointState(
            network=one.network,
            network_id=one.network_id,
            mac_address=one.requested.mac_address,
            aliases=one.aliases,
            dns_names=one.dns_names,
            requested=one.requested,
        )
        for one in container.network.endpoints
    )
    return NetworkSettings(endpoints=endpoints)


def endpoints_json(container: ContainerDetails, network: NetworkSettings, version: Version) -> dict[str, Any]:
    """Return the endpoints in ``network`` by their networks' names, as ``Networks`` has them."""
    names = (container.id[:12], container.spec.hostname or container.id[:12])
    return {one.network: endpoint_json(one, names, version) for one in network.endpoints}


# What of an endpoint Docker tells in an inspect alone.
_UNLISTED: Final = dict.fromkeys(("Links", "Aliases", "DriverOpts", "DNSNames"))

_NOWHERE: Final = EndpointState("", "", Endpoint(""))


def summary_json(container: ContainerDetails, version: Version, now: float) -> dict[str, Any]:
    """Return one row of GET /containers/json; ``now`` is the time that "Up 3 seconds" counts from."""
    spec = container.spec
    args = [*spec.process.entrypoint, *spec.process.cmd]
    network = live_network(container)
    result: dict[str, Any] = {
        "Id": container.id,
        "Names": sorted([f"/{spec.name}", *container.link_names]),
        "Image": spec.image,
        "ImageID": spec.image_id,
        "Command": " ".join(quoted(word) for word in args),
        "Created": int(container.created.timestamp()),
        "Ports": ports_summary_json(network.ports),
        "Labels": dict(spec.labels),
        "State": container.state.status.value,
        "Status": status_text(container.state, now),
        **(_health_summary(container.state) if version >= (1, 52) else {}),
        "HostConfig": _listed_host_config(spec, version),
        "NetworkSettings": {
            "Networks": {
                name: endpoint | _UNLISTED for name, endpoint in endpoints_json(container, network, version).items()
            }
        },
        "Mounts": points_json(container),
        **_manifest(spec, version),
    }
    if container.size_rw_bytes:  # as everywhere in a list, nothing is not told
        result["SizeRw"] = container.size_rw_bytes
    return result


def _manifest(spec: ContainerSpec, version: Version) -> dict[str, Any]:
    manifest = spec.image_manifest
    if manifest is None or version < (1, 48):
        return {}
    platform = {"architecture": manifest.architecture, "os": manifest.os}
    if manifest.variant:
        platform["variant"] = manifest.variant
    return {
        "ImageManifestDescriptor": {
            "mediaType": manifest.media_type,
            "digest": manifest.digest,
            "size": manifest.size,
            "platform": platform,
        }
    }


def _listed_host_config(spec: ContainerSpec, version: Version) -> dict[str, Any]:
    annotations = {"Annotations": dict(spec.annotations)} if spec.annotations and version >= (1, 46) else {}
    return {"NetworkMode": spec.namespaces.network or "bridge", **annotations}


def quoted(word: str) -> str:
    """Return a word of a command line as Docker shows it: in single quotes if it holds a space."""
    return f"'{word}'" if " " in word else word


def status_text(state: ContainerState, now: float) -> str:
    """Return the STATUS column of ``docker ps``."""
    since_start = human_duration(now - state.started_at.timestamp()) if state.started_at else ""
    since_end = human_duration(now - state.finished_at.timestamp()) if state.finished_at else ""
    match state.status:
        case Status.RUNNING:
            return f"Up {since_start}{_health_note(state)}"
        case Status.PAUSED:
            return f"Up {since_start} (Paused)"
        case Status.RESTARTING:
            return f"Restarting ({state.exit_code}) {since_end} ago"
        case Status.REMOVING:
            return "Removal In Progress"
        case Status.DEAD:
            return "Dead"
        case Status.CREATED:
            return "Created"
        case _:
            return f"Exited ({state.exit_code}) {since_end} ago" if since_end else "Exited"


def _health_summary(state: ContainerState) -> dict[str, Any]:
    health = state.health
    shown = ("none", 0) if health is None else (health.status.value, health.failing_streak)
    return {"Health": dict(zip(("Status", "FailingStreak"), shown, strict=True))}


def _health_note(state: ContainerState) -> str:
    if state.health is None:
        return ""
    starting = state.health.status is HealthStatus.STARTING
    return " (health: starting)" if starting else f" ({state.health.status.value})"


def points(container: ContainerDetails) -> list[MountPoint]:
    """Return the mounts as they are, but for those that a client asked for as ``Tmpfs``, which are told there alone."""
    spec, told = container.spec, set[str]()
    if not spec.docker:
        told = {posixpath.normpath(target) for target in host_config_view.tmpfs_json(spec.mounts)}
    elif b'"Tmpfs":{' in spec.docker:
        told = {posixpath.normpath(target) for target in (sent_json(spec).get("HostConfig") or {}).get("Tmpfs") or {}}
    return [point for point in container.mounts if point.type is not MountType.TMPFS or point.target not in told]


def points_json(container: ContainerDetails) -> list[dict[str, object]]:
    """Return ``points`` in the shape of ``Mounts`` in an inspect and in a list."""
    result = []
    for point in points(container):
        row: dict[str, object] = {"Type": point.type.value}
        if point.name:
            row["Name"] = point.name
        row |= {"Source": point.source, "Destination": point.target}
        if point.driver:
            row["Driver"] = point.driver
        row |= {"Mode": point.mode, "RW": point.read_write, "Propagation": point.propagation}
        result.append(row)
    return result


def published_json(ports: Iterable[PublishedPort]) -> dict[str, list[dict[str, str]] | None]:
    """Return what is the case in the shape of ``NetworkSettings.Ports``: null for a port that is exposed only."""
    result: dict[str, list[dict[str, str]] | None] = {}
    for port in sorted(ports, key=lambda port: (port.container_port, port.protocol)):
        key = f"{port.container_port}/{port.protocol}"
        if port.host_port:
            rows = result.get(key) or []
            rows.append({"HostIp": port.host_ip, "HostPort": str(port.host_port)})
            result[key] = rows
        else:
            result.setdefault(key, None)
    return result


def ports_summary_json(ports: Iterable[PublishedPort]) -> list[dict[str, Any]]:
    """Return the ports in the shape of a container list."""
    result: list[dict[str, Any]] = []
    for port in ports:
        row: dict[str, Any] = {"IP": port.host_ip} if port.host_port and port.host_ip else {}
        row["PrivatePort"] = port.container_port
        if port.host_port:
            row["PublicPort"] = port.host_port
        row["Type"] = port.protocol
        result.append(row)
    return result
