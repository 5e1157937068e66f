"""What containers get that do not say otherwise: dockerd's defaults of the same names, from the configuration.

They are put into a container's record when it is made, which is how inspect shows them and an export keeps them. A
container that was made before keeps what it has.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from runtimed.oci.security.seccomp import own_profile
from sampan.docker.options.limits import check_limits
from sampan.docker.options.logs import DEFAULT_DRIVER, check_log
from sampan.docker.options.ports import parse_port
from sampan.docker.options.security import split_option
from sampan.docker.options.ulimits import check_ulimits, parse_ulimit
from sampan.docker.sizes import parse_size
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import (
    ContainerSpec,
    Dns,
    LogConfig,
    Namespaces,
    PortBinding,
    Resources,
    Ulimit,
)

_NO_NEW_PRIVILEGES: Final = "no-new-privileges"
_SECCOMP: Final = "seccomp"
_LABEL: Final = "label"
_NO_LABEL: Final = "label=disable"
_MOST_PROFILE_BYTES: Final = 1 << 20


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
    ipc: str = ""  # "private" or "shareable"
    cgroup_namespace: str = ""  # "private" or "host"
    cgroup_parent: str = ""
    seccomp: str = ""  # "unconfined", or a profile in JSON

    def fill(self, spec: ContainerSpec) -> ContainerSpec:
        """Return the spec with what it does not say itself."""
        security, resources = spec.security, spec.resources
        if self.no_new_privileges and not any(split_option(one)[0] == _NO_NEW_PRIVILEGES for one in security.options):
            security = replace(security, options=(*security.options, _NO_NEW_PRIVILEGES))
        if _unlabelled(spec):
            security = replace(security, options=(*security.options, _NO_LABEL))
        named = any(split_option(one)[0] == _SECCOMP for one in security.options)
        if self.seccomp and not named and not security.privileged:
            security = replace(security, options=(*security.options, f"{_SECCOMP}={self.seccomp}"))
        resources = replace(resources, cgroup_parent=resources.cgroup_parent or self.cgroup_parent)
        own = {ulimit.name for ulimit in resources.ulimits}
        if more := tuple(ulimit for ulimit in self.ulimits if ulimit.name not in own):
            resources = replace(resources, ulimits=(*resources.ulimits, *more))
        if self.shm_size_bytes and not resources.shm_size_bytes:
            resources = replace(resources, shm_size_bytes=self.shm_size_bytes)
        return replace(
            spec, log=self._log(spec.log), dns=self._dns(spec.dns), security=security, resources=resources,
            ports=self._ports(spec) if self.host_ip else spec.ports,
            init=True if self.init and spec.init is None else spec.init, namespaces=self._namespaces(spec),
        )  # fmt: skip

    def _namespaces(self, spec: ContainerSpec) -> Namespaces:
        """As dockerd has it: a privileged container sees the host's control groups, whatever the default is."""
        given = spec.namespaces
        cgroup = given.cgroup or ("" if spec.security.privileged else self.cgroup_namespace)
        return replace(given, ipc=given.ipc or self.ipc, cgroup=cgroup)

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


def _unlabelled(spec: ContainerSpec) -> bool:
    """Whether SELinux lets it be, as dockerd has it, for what it shares with the host; labels of its own go first."""
    namespaces, security = spec.namespaces, spec.security
    shares = security.privileged or "host" in (namespaces.pid, namespaces.ipc)
    return shares and not any(split_option(one)[0] == _LABEL for one in security.options)


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
    ipc_mode: str,
    cgroupns_mode: str,
    cgroup_parent: str,
    seccomp_profile: str,
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
    for key, mode, modes in (
        ("default_ipc_mode", ipc_mode, ("private", "shareable")),
        ("default_cgroupns_mode", cgroupns_mode, ("private", "host")),
    ):
        if mode and mode not in modes:
            raise InvalidArgumentError(f"{key}: {mode!r} is neither {modes[0]} nor {modes[1]}")
    try:
        check_limits(Resources(cgroup_parent=cgroup_parent))
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"cgroup_parent: {error}") from error
    resolver = Dns(servers, tuple(dns_search), tuple(dns_opts))
    return ContainerDefaults(
        log, resolver, limits, shm_size_bytes, no_new_privileges, host_ip, init, ipc_mode, cgroupns_mode, cgroup_parent,
        _seccomp(seccomp_profile),
    )  # fmt: skip


def _seccomp(profile: str) -> str:
    """Return a profile's text: the configuration has its file's path, as dockerd's has."""
    if profile in ("", "builtin"):
        return ""
    if profile == "unconfined":
        return profile
    try:
        with Path(profile).open("rb") as file:
            text = file.read(_MOST_PROFILE_BYTES + 1)
        if len(text) > _MOST_PROFILE_BYTES:
            raise InvalidArgumentError(f"it is larger than {_MOST_PROFILE_BYTES} bytes")
        compact = json.dumps(json.loads(text), separators=(",", ":"))  # it will be in every container's record
        if own_profile(compact, ()) is None:
            raise InvalidArgumentError("it filters nothing")
    except OSError as error:
        raise InvalidArgumentError(f"seccomp_profile: {profile}: {error.strerror}") from error
    except (ValueError, RecursionError, InvalidArgumentError) as error:
        raise InvalidArgumentError(f"seccomp_profile: {profile}: {error}") from error
    return compact


def _pairs(key: str, texts: Iterable[str]) -> Mapping[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InvalidArgumentError(f"{key}: {text!r} is not name=value")
        pairs[name] = value
    return pairs
