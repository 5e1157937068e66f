"""The body of POST /containers/create: Docker's JSON into the typed spec."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from dockerapi.container import host_config, mount_specs
from dockerapi.http.fields import INT32, UINT16, Fields
from dockerapi.http.versions import Version
from sampan.docker.options.check import check_options
from sampan.docker.options.namespaces import network_mode
from sampan.docker.options.networks import endpoints
from sampan.docker.options.ports import parse_exposed
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import (
    ConsoleSize,
    ContainerSpec,
    Dns,
    Endpoint,
    HealthCheck,
    Process,
    RestartPolicy,
)

_SECOND_NS: Final = 1_000_000_000


def parse(body: dict[str, Any], name: str, version: Version) -> ContainerSpec:
    """Return the spec that ``body`` asks for. ``VolumesFrom`` is not in it: that takes a question.

    Raises:
        InvalidArgumentError: in Docker's words, where it has some.
    """
    sent = Fields(body, "")
    host = sent.fields("HostConfig")
    if not sent.text("Image"):
        raise InvalidArgumentError("no image specified: Config.Image is empty")
    host_config.check(host)
    namespaces = host_config.namespaces(host)
    if sent.flag("NetworkDisabled"):  # the network namespace of its own that Docker makes then, too, and nothing in it
        namespaces = replace(namespaces, network="none")
    spec = ContainerSpec(
        name=name.removeprefix("/"),
        image=sent.text("Image"),
        process=_process(sent, host),
        labels=sent.mapping("Labels"),
        hostname=sent.text("Hostname"),
        domainname=sent.text("Domainname"),
        stop_signal=sent.text("StopSignal"),
        stop_timeout_s=sent.optional_number("StopTimeout", INT32),
        exposed_ports=tuple(parse_exposed(sent.keys("ExposedPorts"))),
        mounts=tuple(mount_specs.mounts(host)),
        anonymous_volumes=tuple(sent.keys("Volumes")),
        resources=host_config.resources(host),
        security=host_config.security(host),
        namespaces=namespaces,
        endpoints=_endpoints(sent, host, namespaces.network, version),
        ports=host_config.ports(host),
        publish_all_ports=host.flag("PublishAllPorts"),
        dns=Dns(tuple(host.texts("Dns")), tuple(host.texts("DnsSearch")), tuple(host.texts("DnsOptions"))),
        extra_hosts=tuple(host.texts("ExtraHosts")),
        sysctls=host.mapping("Sysctls"),
        restart_policy=host_config.restart_policy(host) or RestartPolicy(),
        auto_remove=host.flag("AutoRemove"),
        log=host_config.log(host),
        init=host.optional_flag("Init"),
        runtime=host.text("Runtime"),
        health_check=health_check(sent),
        annotations=host.mapping("Annotations"),
        docker=json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogateescape"),
    )
    check_options(spec)
    return spec


def volumes_from(body: Mapping[str, object]) -> list[str]:
    """Return whose volumes the container has, too: each ``container[:ro|rw…]``."""
    return Fields(body, "").fields("HostConfig").texts("VolumesFrom")


def warnings(body: Mapping[str, object], version: Version) -> tuple[str, ...]:
    """Return what to tell whoever sent ``body``, which was accepted: what Docker's versions warn of."""
    host = Fields(body, "").fields("HostConfig")
    said = []
    if host.number("KernelMemory") or host.number("KernelMemoryTCP"):
        said.append(
            "Your kernel does not support kernel memory limit capabilities or the cgroup is not mounted. "
            "Limitation discarded."
        )
    volumes = [mount for mount in host.items("Mounts") if mount.text("Type") == "volume"]
    if version >= (1, 48) and host.text("VolumeDriver") and volumes:
        said.append(
            "`--volume-driver` is ignored for volumes specified via `--mount`. "
            "Use `--mount type=volume,volume-driver=...` instead"
        )
    empty = sorted(port for port, rows in host.lists("PortBindings") if not rows)
    if version >= (1, 52) and empty:
        said.append(
            f"Following container port(s) have an empty list of port-bindings: {', '.join(empty)}. "
            "Such bindings will be discarded in a future version."
        )
    return tuple(said)


def _process(sent: Fields, host: Fields) -> Process:
    size = host.numbers("ConsoleSize", UINT16)
    return Process(
        entrypoint=tuple(sent.texts("Entrypoint")),
        cmd=tuple(sent.texts("Cmd")),
        env=tuple(sent.texts("Env")),
        working_dir=sent.text("WorkingDir"),
        user=sent.text("User"),
        tty=sent.flag("Tty"),
        open_stdin=sent.flag("OpenStdin"),
        stdin_once=sent.flag("StdinOnce"),
        attach_stdin=sent.flag("AttachStdin"),
        attach_stdout=sent.flag("AttachStdout"),
        attach_stderr=sent.flag("AttachStderr"),
        additional_groups=tuple(host.texts("GroupAdd")),
        console_size=ConsoleSize(height=size[0], width=size[1]) if len(size) == 2 and any(size) else None,
        own_entrypoint=sent.has("Entrypoint"),
    )


def health_check(sent: Fields) -> HealthCheck | None:
    """Return the ``Healthcheck``; its durations are nanoseconds in JSON."""
    if not sent.has("Healthcheck"):
        return None
    given = sent.fields("Healthcheck")

    def seconds(name: str) -> float:
        value_ns = given.number(name)
        if value_ns < 0:
            raise InvalidArgumentError(f"{name} in Healthcheck cannot be less than 1ms")
        return value_ns / _SECOND_NS

    return HealthCheck(
        test=tuple(given.texts("Test")),
        interval_s=seconds("Interval"),
        timeout_s=seconds("Timeout"),
        start_period_s=seconds("StartPeriod"),
        start_interval_s=seconds("StartInterval"),
        retries=given.number("Retries", INT32),
    )


def _endpoints(sent: Fields, host: Fields, mode: str, version: Version) -> tuple[Endpoint, ...]:
    """Return the networks to join. What is said outside of ``NetworkingConfig`` is about that of ``NetworkMode``."""
    members = sent.fields("NetworkingConfig").members("EndpointsConfig")
    given = {name: endpoint(name, fields) for name, fields in members}
    if version < (1, 44) and len(given) > 1:
        names = ", ".join(given)
        raise InvalidArgumentError(f"Container cannot be connected to network endpoints: {names}")
    links, mac_address = host.texts("Links"), sent.text("MacAddress")
    if mac_address and version >= (1, 52):
        raise InvalidArgumentError(
            "MacAddress in Config is not supported from API version 1.52 on: use that of an endpoint's settings"
        )
    if links or mac_address:
        name = next((name for name in given if network_mode(name) == mode), mode)
        first = given.get(name, Endpoint(mode))
        mac_address = first.mac_address or mac_address
        given[name] = replace(first, links=tuple(dict.fromkeys((*first.links, *links))), mac_address=mac_address)
    return endpoints(mode, given.values())


def endpoint(network: str, given: Fields) -> Endpoint:
    """Return one ``EndpointSettings`` as a request."""
    ipam = given.fields("IPAMConfig")
    return Endpoint(
        network=network,
        aliases=tuple(given.texts("Aliases")),
        ipv4_address=ipam.text("IPv4Address"),
        ipv6_address=ipam.text("IPv6Address"),
        mac_address=given.text("MacAddress"),
        links=tuple(given.texts("Links")),
        driver_options=given.mapping("DriverOpts"),
        link_local_ips=tuple(ipam.texts("LinkLocalIPs")),
        gw_priority=given.number("GwPriority"),
    )
