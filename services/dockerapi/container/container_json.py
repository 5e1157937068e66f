"""A container in the shapes that Docker's clients know: of ``inspect``, and of a list."""

import json
from typing import Any, Final

from dockerapi.container import host_config, mount_specs, port_specs
from dockerapi.http.times import NEVER, duration_ns, human_duration, nanoseconds, rfc3339
from dockerapi.http.versions import Version
from sampan.api.runtime.v1 import containers_pb2, spec_pb2

Status = containers_pb2.ContainerState

STATUS_NAMES: Final = {
    Status.CREATED: "created",
    Status.RUNNING: "running",
    Status.PAUSED: "paused",
    Status.RESTARTING: "restarting",
    Status.REMOVING: "removing",
    Status.EXITED: "exited",
    Status.DEAD: "dead",
}
_CONNECTED: Final = frozenset({Status.RUNNING, Status.PAUSED})
_ALIVE: Final = frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING})


def inspect_json(container: containers_pb2.Container, version: Version) -> dict[str, Any]:
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
        "HostConfig": host_config.to_json(spec, sent.get("HostConfig") or {}, spec.runtime or container.runtime),
        "GraphDriver": _graph_driver(container),
        "Mounts": mount_specs.points_json(container.mounts),
        "Config": _config(container, sent),
        "NetworkSettings": _network_settings(container, version),
    }
    if container.HasField("size_rw_bytes"):
        result["SizeRw"] = container.size_rw_bytes
    return result


def sent_json(spec: spec_pb2.ContainerSpec) -> dict[str, Any]:
    """Return what the client sent at create; empty for a container that no Docker client made."""
    if not spec.docker:
        return {}
    value = json.loads(spec.docker)
    return value if isinstance(value, dict) else {}


def _state(state: containers_pb2.ContainerState) -> dict[str, Any]:
    status = state.status
    result: dict[str, Any] = {
        "Status": STATUS_NAMES[status],
        "Running": status in _ALIVE,
        "Paused": status == Status.PAUSED,
        "Restarting": status == Status.RESTARTING,
        "OOMKilled": state.oom_killed,
        "Dead": status == Status.DEAD,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": rfc3339(state.started_at),
        "FinishedAt": rfc3339(state.finished_at),
    }
    if state.HasField("health"):
        result["Health"] = {
            "Status": state.health.status,
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


def _config(container: containers_pb2.Container, sent: dict[str, Any]) -> dict[str, Any]:
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
    if spec.HasField("health_check"):
        config["Healthcheck"] = health_check_json(spec.health_check)
    config |= {
        "Image": spec.image,
        "Volumes": {target: {} for target in spec.anonymous_volumes} or None,
        "WorkingDir": process.working_dir,
        "Entrypoint": list(process.entrypoint) or None,
        "OnBuild": None,
        "Labels": dict(spec.labels),
    }
    if spec.stop_signal:
        config["StopSignal"] = spec.stop_signal
    if spec.HasField("stop_timeout"):
        config["StopTimeout"] = spec.stop_timeout.seconds
    for key in ("NetworkDisabled", "Shell", "ArgsEscaped"):
        if sent.get(key):
            config[key] = sent[key]
    return config


def health_check_json(check: spec_pb2.HealthCheck) -> dict[str, Any]:
    """Return a health check with durations in nanoseconds, without what is not set."""
    result: dict[str, Any] = {"Test": list(check.test)} if check.test else {}
    durations = {
        "Interval": duration_ns(check.interval),
        "Timeout": duration_ns(check.timeout),
        "StartPeriod": duration_ns(check.start_period),
        "StartInterval": duration_ns(check.start_interval),
        "Retries": check.retries,
    }
    return result | {key: value for key, value in durations.items() if value}


def _graph_driver(container: containers_pb2.Container) -> dict[str, Any]:
    facts = {"MergedDir": container.root_path} if container.root_path else None
    return {"Data": facts, "Name": container.driver}


def _network_settings(container: containers_pb2.Container, version: Version) -> dict[str, Any]:
    network = live_network(container)
    bridge = next((one for one in network.endpoints if one.network == "bridge"), containers_pb2.EndpointState())
    return {
        "Bridge": "",
        "SandboxID": network.sandbox_id,
        "SandboxKey": network.sandbox_path,
        "Ports": port_specs.published_json(network.ports),
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
        "Networks": {one.network: endpoint_json(one, container.id, version) for one in network.endpoints},
    }


def live_network(container: containers_pb2.Container) -> containers_pb2.NetworkSettings:
    """Return how the container is connected: with addresses and ports only while it runs, as Docker shows it."""
    if container.state.status in _CONNECTED:
        return container.network
    endpoints = [
        containers_pb2.EndpointState(
            network=one.network,
            network_id=one.network_id,
            mac_address=one.requested.mac_address,
            aliases=one.aliases,
            dns_names=one.dns_names,
            requested=one.requested,
        )
        for one in container.network.endpoints
    ]
    return containers_pb2.NetworkSettings(endpoints=endpoints)


def endpoint_json(endpoint: containers_pb2.EndpointState, container_id: str, version: Version) -> dict[str, Any]:
    """Return one ``EndpointSettings``."""
    asked = endpoint.requested
    ipam = {"IPv4Address": asked.ipv4_address, "IPv6Address": asked.ipv6_address}
    aliases = list(endpoint.aliases)
    if version < (1, 45) and aliases and container_id[:12] not in aliases:
        aliases.append(container_id[:12])  # moved to DNSNames in 1.45
    result: dict[str, Any] = {
        "IPAMConfig": {key: value for key, value in ipam.items() if value} or ({} if asked.ipv4_address else None),
        "Links": list(asked.links) or None,
        "Aliases": aliases or None,
        "MacAddress": endpoint.mac_address,
        "DriverOpts": dict(asked.driver_options) or None,
        "GwPriority": 0,
        "NetworkID": endpoint.network_id,
        "EndpointID": endpoint.endpoint_id,
        "Gateway": endpoint.gateway,
        "IPAddress": endpoint.ipv4_address,
        "IPPrefixLen": endpoint.ipv4_prefix,
        "IPv6Gateway": endpoint.ipv6_gateway,
        "GlobalIPv6Address": endpoint.ipv6_address,
        "GlobalIPv6PrefixLen": endpoint.ipv6_prefix,
        "DNSNames": list(endpoint.dns_names) or None,
    }
    if version < (1, 48):
        del result["GwPriority"]
    return result


def summary_json(container: containers_pb2.Container, version: Version, now: float) -> dict[str, Any]:
    """Return one row of GET /containers/json; ``now`` is the time that "Up 3 seconds" counts from."""
    spec = container.spec
    args = [*spec.process.entrypoint, *spec.process.cmd]
    network = live_network(container)
    result: dict[str, Any] = {
        "Id": container.id,
        "Names": [f"/{spec.name}"],
        "Image": spec.image,
        "ImageID": spec.image_id,
        "Command": " ".join(_quoted(word) for word in args),
        "Created": container.created.seconds,
        "Ports": port_specs.summary_json(network.ports),
        "Labels": dict(spec.labels),
        "State": STATUS_NAMES[container.state.status],
        "Status": status_text(container.state, now),
        "HostConfig": {"NetworkMode": spec.namespaces.network or "bridge"},
        "NetworkSettings": {
            "Networks": {one.network: endpoint_json(one, container.id, version) for one in network.endpoints}
        },
        "Mounts": mount_specs.points_json(container.mounts),
    }
    if container.HasField("size_rw_bytes"):
        result["SizeRw"] = container.size_rw_bytes
    return result


def _quoted(word: str) -> str:
    """Docker quotes, in single quotes, arguments that hold a space."""
    return f"'{word}'" if " " in word else word


def status_text(state: containers_pb2.ContainerState, now: float) -> str:
    """Return the STATUS column of ``docker ps``."""
    since_start = human_duration(now - nanoseconds(state.started_at) / 1e9)
    since_end = human_duration(now - nanoseconds(state.finished_at) / 1e9)
    match state.status:
        case Status.RUNNING:
            health = state.health.status
            note = {"starting": " (health: starting)", "": ""}.get(health, f" ({health})")
            return f"Up {since_start}{note}"
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
            ended = rfc3339(state.finished_at) != NEVER
            return f"Exited ({state.exit_code}) {since_end} ago" if ended else "Exited"
