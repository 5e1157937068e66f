"""What a pod may be asked to be, as far as that can be told before anything is made."""

import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address
from typing import Final

from crid.model.config import DNSConfig, PodConfig, PortMapping
from crid.model.security import NamespaceMode, NamespaceOption, ProfileType, SecurityProfile
from sampan.errors import InvalidArgumentError

_MAX_HOSTNAME: Final = 64  # __NEW_UTS_LEN
_MAX_PORT: Final = 65535
_MAX_RESOLV_CONF: Final = 4096
_MAX_CGROUP: Final = 1024  # with room for the container's own below PATH_MAX
_SYSTEMD: Final = "systemd"  # runtimed's word for its cgroup driver
_SLICE: Final = ".slice"
_HOSTNAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.\-_]*[A-Za-z0-9])?")

# What belongs to a namespace, by the namespace.
_NET_SYSCTLS: Final = re.compile(r"net(\.[A-Za-z0-9_\-/*:]+)+")
_IPC_SYSCTLS: Final = re.compile(
    r"kernel\.(msgmax|msgmnb|msgmni|sem|shmall|shmmax|shmmni|shm_rmid_forced|msg_next_id|sem_next_id|shm_next_id)"
    r"|fs\.mqueue\.[a-z_]+"
)


def check_pod(config: PodConfig, handler: str, handlers: Collection[str], cgroup_driver: str = "cgroupfs") -> None:
    """Look at a pod that is asked for.

    Raises:
        InvalidArgumentError: it cannot be meant; the sentence names the field.
    """
    if config.windows is not None:
        raise InvalidArgumentError("windows: pods of Windows do not run here")
    if handler not in handlers:
        raise InvalidArgumentError(f"runtime_handler is {handler!r}: there are {', '.join(map(repr, handlers))}")
    said = config.metadata
    for field in ("name", "namespace", "uid"):
        if not getattr(said, field):
            raise InvalidArgumentError(f"metadata.{field} is empty")
        if any(sign in getattr(said, field) for sign in "/\0\n"):
            raise InvalidArgumentError(f"metadata.{field} is {getattr(said, field)!r}: no name")
    _check_namespaces(config.linux.security_context.namespace_options)
    _check_security(config)
    _check_hostname(config)
    _check_dns(config.dns_config)
    for port in config.port_mappings:
        _check_port(port)
    check_sysctls(config.linux.sysctls, config.linux.security_context.namespace_options)
    if config.log_directory and (not config.log_directory.startswith("/") or "\0" in config.log_directory):
        raise InvalidArgumentError(f"log_directory is {config.log_directory!r}: expected an absolute path")
    parent = config.linux.cgroup_parent
    if ".." in parent.split("/") or len(parent) > _MAX_CGROUP or any(sign in parent for sign in "\0\n"):
        raise InvalidArgumentError(f"linux.cgroup_parent is {parent[:_MAX_CGROUP]!r}: no control group")
    if cgroup_driver == _SYSTEMD and parent and not parent.endswith(_SLICE):
        raise InvalidArgumentError(
            f"linux.cgroup_parent is {parent!r}: with the cgroup driver systemd a slice is expected; kubelet's"
            " cgroupDriver has to be the same"
        )


def _check_namespaces(options: NamespaceOption) -> None:
    for name in ("network", "ipc"):
        if getattr(options, name) not in (NamespaceMode.POD, NamespaceMode.NODE):
            raise InvalidArgumentError(f"namespace_options.{name} of a sandbox is POD or NODE")
    if options.pid is NamespaceMode.TARGET or options.target_id:
        raise InvalidArgumentError("namespace_options.pid of a sandbox cannot be TARGET: it is one container's")
    users = options.userns_options
    if users is not None and users.mode not in (NamespaceMode.POD, NamespaceMode.NODE):
        raise InvalidArgumentError("userns_options.mode is POD or NODE")
    mapped = options.mappings
    if mapped is None:
        return
    if len(mapped.uids) != 1 or len(mapped.gids) != 1 or mapped.uids != mapped.gids:
        raise InvalidArgumentError("userns_options: expected one mapping of uids, and the same of gids")
    if mapped.uids[0].container_id != 0 or not mapped.uids[0].length:
        raise InvalidArgumentError("userns_options: the mapping begins at 0 in the pod, and has a length")
    if options.network is NamespaceMode.NODE or options.pid is NamespaceMode.NODE or options.ipc is NamespaceMode.NODE:
        raise InvalidArgumentError("userns_options: a pod with a user namespace has none of the host's others")


def _check_security(config: PodConfig) -> None:
    security = config.linux.security_context
    if security.run_as_group is not None and security.run_as_user is None:
        raise InvalidArgumentError("security_context.run_as_group needs run_as_user")
    for name in ("seccomp", "apparmor"):
        check_profile(getattr(security, name), f"security_context.{name}")


def check_profile(profile: SecurityProfile | None, field: str) -> None:
    """Raise InvalidArgumentError for a profile that says two things, or nothing."""
    if profile is None:
        return
    if (profile.profile_type is ProfileType.Localhost) != bool(profile.localhost_ref):
        raise InvalidArgumentError(f"{field}: localhost_ref goes with Localhost, and with nothing else")


def _check_hostname(config: PodConfig) -> None:
    name = config.hostname
    host = config.linux.security_context.namespace_options.network is NamespaceMode.NODE
    if not name:
        return  # the host's, or what the sandbox's ID begins with
    if not host and (len(name) > _MAX_HOSTNAME or not _HOSTNAME.fullmatch(name)):
        raise InvalidArgumentError(f"hostname is {name!r}: expected at most {_MAX_HOSTNAME} letters, digits, - and .")


def _check_dns(dns: DNSConfig) -> None:
    for server in dns.servers:
        try:
            ip_address(server.partition("%")[0])
        except ValueError:
            raise InvalidArgumentError(f"dns_config.servers has {server!r}: no address") from None
    words = (*dns.searches, *dns.options)
    for word in words:
        if not word or any(sign.isspace() or sign == "\0" for sign in word):
            raise InvalidArgumentError(f"dns_config has {word!r}: no word that resolv.conf can hold")
    if sum(len(word) + 1 for word in (*dns.servers, *words)) > _MAX_RESOLV_CONF:
        raise InvalidArgumentError(f"dns_config is longer than {_MAX_RESOLV_CONF} bytes")


def _check_port(port: PortMapping) -> None:
    for name in ("container_port", "host_port"):
        if not 0 <= getattr(port, name) <= _MAX_PORT:
            raise InvalidArgumentError(f"port_mappings.{name} is {getattr(port, name)}: 0 to {_MAX_PORT}")
    if port.host_port and not port.container_port:
        raise InvalidArgumentError(f"port_mappings: host_port {port.host_port} leads to no container_port")
    if port.host_ip:
        try:
            ip_address(port.host_ip)
        except ValueError:
            raise InvalidArgumentError(f"port_mappings.host_ip is {port.host_ip!r}: no address") from None


def check_sysctls(sysctls: Mapping[str, str], options: NamespaceOption) -> None:
    """Raise InvalidArgumentError for what would change the host, or has no name."""
    for given, value in sysctls.items():
        name = given if "/" not in given or "." in given.partition("/")[0] else given.replace("/", ".")
        if ".." in name or "\0" in value:
            raise InvalidArgumentError(f"sysctls has {given!r}: no sysctl")
        if _NET_SYSCTLS.fullmatch(name):
            if options.network is NamespaceMode.NODE:
                raise InvalidArgumentError(f"sysctl {given} is the host's: the pod is in the host's network")
        elif _IPC_SYSCTLS.fullmatch(name):
            if options.ipc is NamespaceMode.NODE:
                raise InvalidArgumentError(f"sysctl {given} is the host's: the pod has the host's ipc namespace")
        else:
            raise InvalidArgumentError(f"sysctl {given} belongs to no namespace of a pod")
