"""What containers get that do not say otherwise: dockerd's defaults of the same names, from the configuration.

They are put into a container's record when it is made, which is how inspect shows them and an export keeps them. A
container that was made before keeps what it has.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final

from sampan.docker.options.logs import DEFAULT_DRIVER, check_log
from sampan.docker.options.ports import parse_port
from sampan.docker.options.security import split_option
from sampan.docker.options.ulimits import check_ulimits, parse_ulimit
from sampan.docker.sizes import parse_size
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ContainerSpec, Dns, LogConfig, PortBinding, Ulimit

_NO_NEW_PRIVILEGES: Final = "no-new-privileges"


@dataclass(frozen=True, slots=True)
class ContainerDefaults:
    """What fills the gaps of a spec. What is empty fills nothing."""

    log: LogConfig = field(default_factory=LogConfig)
    dns: Dns = field(default_factory=Dns)
    ulimits: tuple[Ulimit, ...] = ()
    shm_size_bytes: int = 0
    no_new_privileges: bool = False
    host_ip: str = ""  # that ports are published at
    init: bool = False

    def fill(self, spec: ContainerSpec) -> ContainerSpec:
        """Return the spec with what it does not say itself."""
        security, resources = spec.security, spec.resources
        if self.no_new_privileges and not any(split_option(one)[0] == _NO_NEW_PRIVILEGES for one in security.options):
            security = replace(security, options=(*security.options, _NO_NEW_PRIVILEGES))
        own = {ulimit.name for ulimit in resources.ulimits}
        if more := tuple(ulimit for ulimit in self.ulimits if ulimit.name not in own):
            resources = replace(resources, ulimits=(*resources.ulimits, *more))
        if self.shm_size_bytes and not resources.shm_size_bytes:
            resources = replace(resources, shm_size_bytes=self.shm_size_bytes)
        return replace(
            spec, log=self._log(spec.log), dns=self._dns(spec.dns), security=security, resources=resources,
            ports=self._ports(spec) if self.host_ip else spec.ports,
            init=True if self.init and spec.init is None else spec.init,
        )  # fmt: skip

    def _ports(self, spec: ContainerSpec) -> tuple[PortBinding, ...]:
        ports = [port if port.host_ip else replace(port, host_ip=self.host_ip) for port in spec.ports]
        if spec.publish_all_ports:
            named = {(port.container_port, port.protocol) for port in ports}
            exposed = [parse_port(text) for text in spec.exposed_ports]
            ports += [PortBinding(*each, self.host_ip) for each in exposed if each not in named]
        return tuple(ports)

    def _log(self, given: LogConfig) -> LogConfig:
        """As dockerd has it: options go with their driver, and each of them can be overruled."""
        driver = self.log.driver or DEFAULT_DRIVER
        if (given.driver or driver) != driver or not (self.log.driver or self.log.options):
            return given
        return LogConfig(driver, {**self.log.options, **given.options})

    def _dns(self, given: Dns) -> Dns:
        mine = self.dns
        return Dns(given.servers or mine.servers, given.search or mine.search, given.options or mine.options)


def make_defaults(
    *,
    log_driver: str,
    log_opts: Iterable[str],
    dns: Iterable[str],
    dns_search: Iterable[str],
    dns_opts: Iterable[str],
    ulimits: Iterable[str],
    shm_size: str,
    no_new_privileges: bool,
    host_ip: str,
    init: bool,
) -> ContainerDefaults:
    """Return the defaults that the configuration describes.

    Raises:
        InvalidArgumentError: a value that no container could have; the message names the key.
    """
    try:
        log = LogConfig(log_driver, _pairs("log_opts", log_opts))
        check_log(log)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"log_driver and log_opts: {error}") from error
    servers = tuple(dns)
    for key, addresses in (("dns", servers), ("host_ip", (host_ip,) if host_ip else ())):
        for address in addresses:
            try:
                ip_address(address)
            except ValueError:
                raise InvalidArgumentError(f"{key}: {address!r} is no address") from None
    try:
        limits = tuple(parse_ulimit(text) for text in ulimits)
        check_ulimits(limits)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"default_ulimits: {error}") from error
    if len({limit.name for limit in limits}) < len(limits):
        raise InvalidArgumentError("default_ulimits: one is there twice")
    try:
        shm_size_bytes = parse_size(shm_size) if shm_size else 0
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"default_shm_size: {error}") from error
    resolver = Dns(servers, tuple(dns_search), tuple(dns_opts))
    return ContainerDefaults(log, resolver, limits, shm_size_bytes, no_new_privileges, host_ip, init)


def _pairs(key: str, texts: Iterable[str]) -> Mapping[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InvalidArgumentError(f"{key}: {text!r} is not name=value")
        pairs[name] = value
    return pairs
