"""The body of POST /containers/create: Docker's JSON into the typed spec."""

import json
from typing import Any

from dockerapi.container import host_config, port_specs
from dockerapi.http.fields import INT32, UINT16, Fields
from dockerapi.http.times import to_duration
from dockerapi.http.versions import Version
from sampan.api.runtime.v1 import spec_pb2
from sampan.errors import InvalidArgumentError

_WITHOUT_ENDPOINTS = ("none", "host")


def parse(body: dict[str, Any], name: str, version: Version) -> tuple[spec_pb2.ContainerSpec, list[str]]:
    """Return the spec that ``body`` asks for, and warnings. ``VolumesFrom`` is not in it: that takes a question.

    Raises:
        InvalidArgumentError: in Docker's words, where it has some.
    """
    sent = Fields(body, "")
    host = sent.fields("HostConfig")
    spec = spec_pb2.ContainerSpec(
        name=name.removeprefix("/"),
        image=sent.text("Image"),
        process=_process(sent, host),
        labels=sent.mapping("Labels"),
        hostname=sent.text("Hostname"),
        domainname=sent.text("Domainname"),
        stop_signal=sent.text("StopSignal"),
        exposed_ports=port_specs.exposed(sent.keys("ExposedPorts")),
        anonymous_volumes=sent.keys("Volumes"),
        health_check=health_check(sent),
        docker=json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(errors="surrogateescape"),
    )
    if not spec.image:
        raise InvalidArgumentError("no image specified: Config.Image is empty")
    if (timeout_s := sent.optional_number("StopTimeout", INT32)) is not None:
        spec.stop_timeout.seconds = timeout_s
    warnings = host_config.apply(host, spec)
    spec.endpoints.extend(_endpoints(sent, host, spec.namespaces.network, version))
    return spec, warnings


def _process(sent: Fields, host: Fields) -> spec_pb2.Process:
    size = host.numbers("ConsoleSize", UINT16)
    return spec_pb2.Process(
        entrypoint=sent.texts("Entrypoint"),
        cmd=sent.texts("Cmd"),
        env=sent.texts("Env"),
        working_dir=sent.text("WorkingDir"),
        user=sent.text("User"),
        tty=sent.flag("Tty"),
        open_stdin=sent.flag("OpenStdin"),
        stdin_once=sent.flag("StdinOnce"),
        attach_stdin=sent.flag("AttachStdin"),
        attach_stdout=sent.flag("AttachStdout"),
        attach_stderr=sent.flag("AttachStderr"),
        console_size=spec_pb2.ConsoleSize(height=size[0], width=size[1]) if len(size) == 2 and any(size) else None,
    )


def health_check(sent: Fields) -> spec_pb2.HealthCheck | None:
    """Return the ``Healthcheck``; its durations are nanoseconds in JSON."""
    if not sent.has("Healthcheck"):
        return None
    given = sent.fields("Healthcheck")
    check = spec_pb2.HealthCheck(test=given.texts("Test"), retries=given.number("Retries", INT32))
    for name, field in (
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ):
        if value_ns := given.number(name):
            if value_ns < 0:
                raise InvalidArgumentError(f"{name} in Healthcheck cannot be less than 1ms")
            field.CopyFrom(to_duration(value_ns))
    return check


def _endpoints(sent: Fields, host: Fields, mode: str, version: Version) -> list[spec_pb2.Endpoint]:
    """Return the networks to join, that of ``NetworkMode`` first; none for a default bridge with nothing said of it."""
    given: dict[str, spec_pb2.Endpoint] = {}
    for name, fields in sent.fields("NetworkingConfig").members("EndpointsConfig"):
        network = "bridge" if name == "default" else name
        given[network] = endpoint(network, fields)
    if version < (1, 44) and len(given) > 1:
        names = ", ".join(given)
        raise InvalidArgumentError(f"Container cannot be connected to network endpoints: {names}")
    if mode in _WITHOUT_ENDPOINTS or mode.startswith("container:"):
        others = [name for name in given if name != mode]
        if others:
            raise InvalidArgumentError(
                f"conflicting options: cannot attach both user-defined and non-user-defined network-modes ({mode})"
            )
        return []
    first = given.pop(mode, spec_pb2.Endpoint())
    first.network = mode
    first.links.extend(host.texts("Links"))
    first.mac_address = first.mac_address or sent.text("MacAddress")
    if mode == "bridge" and not given and first == spec_pb2.Endpoint(network="bridge"):
        return []
    return [first, *given.values()]


def endpoint(network: str, given: Fields) -> spec_pb2.Endpoint:
    """Return one ``EndpointSettings`` as a request."""
    ipam = given.fields("IPAMConfig")
    return spec_pb2.Endpoint(
        network=network,
        aliases=given.texts("Aliases"),
        ipv4_address=ipam.text("IPv4Address"),
        ipv6_address=ipam.text("IPv6Address"),
        mac_address=given.text("MacAddress"),
        links=given.texts("Links"),
        driver_options=given.mapping("DriverOpts"),
    )
