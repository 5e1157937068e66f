"""The body of POST /containers/create: Docker's JSON into the typed spec."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from dockerapi.container import host_config, mount_specs
from dockerapi.container.earlier import as_newest, with_host_config
from dockerapi.http.fields import INT32, UINT16, Fields
from dockerapi.http.versions import Version
from sampan.docker.options.check import check_options, warnings
from sampan.docker.options.namespaces import network_mode
from sampan.docker.options.networks import endpoints
from sampan.docker.options.ports import parse_exposed
from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject
from sampan.resource.container_spec import (
    ConsoleSize,
    ContainerSpec,
    Dns,
    Endpoint,
    HealthCheck,
    Mount,
    MountType,
    Process,
    RestartPolicy,
)

_SECOND_NS: Final = 1_000_000_000


def parse(body: JsonObject, name: str, version: Version) -> ContainerSpec:
    """Return the spec alone of ``read``."""
    return read(body, name, version)[0]


def read(body: JsonObject, name: str, version: Version) -> tuple[ContainerSpec, tuple[str, ...]]:
    """Return the spec that ``body`` asks for, and what to tell whoever sent it.

    ``VolumesFrom`` is not in it: that takes a question.

    Raises:
        InvalidArgumentError: in Docker's words, where it has some.
    """
    body, said = as_newest(body, version)
    sent = Fields(body, "")
    host = sent.fields("HostConfig")
    spec = _spec(sent, host, name)
    if version < (1, 44):  # in which mounts that are read-only have others below them that are not
        bound = (replace(one, read_only_non_recursive=True) if _is_read_only(one) else one for one in spec.mounts)
        spec = replace(spec, mounts=tuple(bound))
    spec = replace(
        spec, docker=json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogateescape")
    )
    check_options(spec)
    return spec, (*said, *(warnings(spec) if version >= (1, 48) else ()), *_warnings(host, version))


def _is_read_only(mount: Mount) -> bool:
    return mount.type is MountType.BIND and mount.read_only


def _spec(sent: Fields, host: Fields, name: str) -> ContainerSpec:
    if not sent.text("Image"):
        raise InvalidArgumentError("no image specified: Config.Image is empty")
    host_config.check(host)
    namespaces = host_config.namespaces(host)
    if sent.flag("NetworkDisabled"):  # the network namespace of its own that Docker makes then, too, and nothing in it
        namespaces = replace(namespaces, network="none")
    return ContainerSpec(
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
        endpoints=_endpoints(sent, host, namespaces.network),
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
        volume_driver=host.text("VolumeDriver"),
    )


def volumes_from(body: Mapping[str, object]) -> list[str]:
    """Return whose volumes the container has, too: each ``container[:ro|rw…]``."""
    return Fields(with_host_config(body), "").fields("HostConfig").texts("VolumesFrom")


def _warnings(host: Fields, version: Version) -> Iterator[str]:
    """Yield what Docker's versions warn of in a body's form."""
    empty = sorted(port for port, rows in host.lists("PortBindings") if not rows)
    if version >= (1, 52) and empty:
        yield (
            f"Following container port(s) have an empty list of port-bindings: {', '.join(empty)}. "
            "Such bindings will be discarded in a future version."
        )


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


def _endpoints(sent: Fields, host: Fields, mode: str) -> tuple[Endpoint, ...]:
    """Return the networks to join. Links are said outside of ``NetworkingConfig``, of that of ``NetworkMode``."""
    members = sent.fields("NetworkingConfig").members("EndpointsConfig")
    given = {name: endpoint(name, fields) for name, fields in members}
    if links := host.texts("Links"):
        name = next((name for name in given if network_mode(name) == mode), mode)
        first = given.get(name, Endpoint(mode))
        given[name] = replace(first, links=tuple(dict.fromkeys((*first.links, *links))))
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
