"""What the body of a create, or of an update, means in an earlier version of the API: as the newest would say it.

A field is not there for a version that does not know it. Fields that other versions keep elsewhere move there, and
whoever sent them is told so.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Final

from dockerapi.http.fields import Fields
from dockerapi.http.versions import Version
from sampan.docker.options.namespaces import network_mode
from sampan.docker.options.networks import ENDPOINT_SYSCTLS
from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject

# Options of a mount, and the type that they are for.
_OPTIONS: Final[Mapping[str, str]] = {"VolumeOptions": "volume", "BindOptions": "bind", "TmpfsOptions": "tmpfs"}

# What a body without HostConfig has that is no host's: the container's config, networks, and a name told of below.
_OF_CONFIG: Final = frozenset(
    {"hostconfig", "networkingconfig", "cpuset"}
    | {"hostname", "domainname", "user", "attachstdin", "attachstdout", "attachstderr", "exposedports", "tty"}
    | {"openstdin", "stdinonce", "env", "cmd", "healthcheck", "argsescaped", "image", "volumes", "workingdir"}
    | {"entrypoint", "networkdisabled", "macaddress", "onbuild", "labels", "stopsignal", "stoptimeout", "shell"}
)

# The host's options that are also taken from beside a HostConfig, and where they go.
_BESIDE: Final[Mapping[str, str]] = {
    "cpuset": "CpusetCpus",
    "memory": "Memory",
    "memoryswap": "MemorySwap",
    "cpushares": "CpuShares",
    "cpusetcpus": "CpusetCpus",
    "volumedriver": "VolumeDriver",
}

# net.ipv4.conf.eth0.log_martians
_OF_INTERFACE: Final = re.compile(r"net\.([^.]+)\.([^.]+)\.(eth[^.]*)\.(.+)")

_KERNEL_MEMORY: Final = (
    "Your kernel does not support kernel memory {}limit capabilities or the cgroup is not mounted. "
    "Limitation discarded."
)


def as_newest(body: Mapping[str, object], version: Version) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the body of a create that was sent in ``version`` as the newest takes it, and what to tell its sender.

    Raises:
        InvalidArgumentError: in Docker's words, what that version refuses.
    """
    result = deepcopy(with_host_config(body))
    host = _object(result, "HostConfig")
    said = list(_limits(host, version))
    _host(host, version)
    for mount in _objects(host, "Mounts"):
        _mount(mount, version)
    if version < (1, 44):
        _drop(_object(result, "Healthcheck"), "StartInterval")
    _endpoints(result, version)
    said += _mac_address(result, host, version)
    said += _sysctls(result, host, version)
    return result, tuple(said)


def with_host_config(body: Mapping[str, object]) -> JsonObject:
    """Return the body of a create with the options of the host in ``HostConfig``, wherever in it they were sent.

    Before there was a ``HostConfig`` they stood beside ``Image``, and clients still send some of them there. Docker
    takes all of them from a body without ``HostConfig``, and a few, after those inside, from one with it.
    """
    result = dict(body)
    sent = Fields(body, "")
    if not sent.has("HostConfig"):
        outside = {name: value for name, value in body.items() if name.lower() not in _OF_CONFIG and value is not None}
        host = _beside(body, {"cpuset": "CpusetCpus"}) | outside
    elif isinstance(given := sent.get("HostConfig"), dict):
        inside = Fields(given, "")
        outside = {name: value for name, value in _beside(body, _BESIDE).items() if not inside.get(name)}
        taken = {name.lower() for name in outside}
        host = {name: value for name, value in given.items() if name.lower() not in taken} | outside
    else:
        return result  # no object: refused by whoever reads it
    if host:
        result[_key(result, "HostConfig") or "HostConfig"] = host
    return result


def _beside(body: Mapping[str, object], names: Mapping[str, str]) -> JsonObject:
    """Return what stands outside of ``HostConfig`` under one of ``names``, by its name inside."""
    return {names[name.lower()]: value for name, value in body.items() if name.lower() in names and value}


def update_as_newest(body: Mapping[str, object], version: Version) -> tuple[JsonObject, tuple[str, ...]]:
    """Return the body of an update likewise."""
    result = dict(body)
    if version < (1, 40):
        _drop(result, "PidsLimit")
    return result, tuple(_limits(result, version))


def _limits(host: JsonObject, version: Version) -> Iterator[str]:
    """Take out limits of kernel memory, which no kernel knows any more; who may ask for them is told."""
    for name, until, what in (("KernelMemory", (1, 42), ""), ("KernelMemoryTCP", (1, 52), "TCP ")):
        if Fields(host, "HostConfig.").number(name) and version < until:
            yield _KERNEL_MEMORY.format(what)
        _drop(host, name)


def _host(host: JsonObject, version: Version) -> None:
    if version < (1, 25):
        _drop(host, "AutoRemove")
    if version < (1, 40) and not Fields(host, "HostConfig.").text("IpcMode"):
        _set(host, "IpcMode", "shareable")
    if version < (1, 42):
        _drop(host, "ConsoleSize")
    if version < (1, 43):
        _drop(host, "Annotations")


def _mount(mount: JsonObject, version: Version) -> None:
    sent = Fields(mount, "Mounts.")
    kind = sent.text("Type").lower()
    for options, of in _OPTIONS.items():
        if kind == of or not sent.has(options):
            continue
        if version >= (1, 42):
            raise InvalidArgumentError(f'invalid mount config for type "{kind}": field {options} must not be specified')
        if options != "BindOptions":  # nobody looked at those then
            _drop(mount, options)
    bind = _object(mount, "BindOptions")
    for name, since in (("NonRecursive", (1, 40)), ("CreateMountpoint", (1, 42))):
        if version < since:
            _drop(bind, name)
    if version < (1, 44) and Fields(bind, "").flag("ReadOnlyForceRecursive"):
        raise InvalidArgumentError("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer")
    if version < (1, 45) and sent.fields("VolumeOptions").text("Subpath"):
        raise InvalidArgumentError("VolumeOptions.Subpath needs API v1.45 or newer")
    if version < (1, 48) and kind == "image":
        raise InvalidArgumentError('Mount type "Image" needs API v1.48 or newer')


def _endpoints(body: JsonObject, version: Version) -> None:
    given = _object(_object(body, "NetworkingConfig"), "EndpointsConfig")
    if version < (1, 44) and len(given) > 1:
        raise InvalidArgumentError(f"Container cannot be connected to network endpoints: {', '.join(given)}")
    for settings in given.values():
        if isinstance(settings, dict):
            endpoint_as_newest(settings, version)


def endpoint_as_newest(settings: JsonObject, version: Version) -> None:
    """Take out of one ``EndpointSettings`` what a version does not know."""
    if version < (1, 44):
        _drop(settings, "MacAddress")
    if version < (1, 48):
        _drop(settings, "GwPriority")


def _mac_address(body: JsonObject, host: JsonObject, version: Version) -> Iterator[str]:
    """Move the hardware address of the container as a whole to its endpoint."""
    if not (address := Fields(body, "").text("MacAddress")):
        return
    if version >= (1, 52):
        raise InvalidArgumentError(
            "MacAddress in Config is not supported from API version 1.52 on: use that of an endpoint's settings"
        )
    mode = _mode(host)
    if version < (1, 44) and (mode in ("host", "none") or mode.startswith("container:")):
        raise InvalidArgumentError("conflicting options: mac-address and the network mode")
    if mode not in ("host", "none") and not mode.startswith("container:"):
        endpoint = _main_endpoint(body, mode, version)
        if (own := Fields(endpoint, "").text("MacAddress")) and own != address:
            raise InvalidArgumentError(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, "
                "or be left empty"
            )
        _set(endpoint, "MacAddress", address)
    if version >= (1, 44):
        _drop(body, "MacAddress")
        yield (
            "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead."
        )


def _sysctls(body: JsonObject, host: JsonObject, version: Version) -> Iterator[str]:
    """Move sysctls of the first interface, which is not there when a container's are set, to its endpoint."""
    mode, sysctls = _mode(host), _object(host, "Sysctls")
    if mode == "host" or mode.startswith("container:"):
        return
    moved, settings = [], []
    for name, value in sysctls.items():
        if (match := _OF_INTERFACE.fullmatch(name)) is None:
            continue
        family, group, interface, setting = match.groups()
        if version >= (1, 48):
            raise InvalidArgumentError(
                f'interface specific sysctl setting "{name}" must be supplied using driver option '
                f"'{ENDPOINT_SYSCTLS}'"
            )
        if interface != "eth0":
            raise InvalidArgumentError(
                f"unable to determine network endpoint for sysctl {name}, use driver option '{ENDPOINT_SYSCTLS}' "
                "to set per-interface sysctls"
            )
        moved.append(name)
        settings.append(f"net.{family}.{group}.IFNAME.{setting}={value}")
    if not moved:
        return
    for name in moved:
        del sysctls[name]
    options = _made(_main_endpoint(body, mode, version), "DriverOpts")
    told = ",".join(settings)
    options[ENDPOINT_SYSCTLS] = ",".join(part for part in (told, options.get(ENDPOINT_SYSCTLS)) if part)
    yield f'Migrated sysctl "{",".join(moved)}" to DriverOpts{{"{ENDPOINT_SYSCTLS}":"{told}"}}.'


def _mode(host: JsonObject) -> str:
    return network_mode(Fields(host, "HostConfig.").text("NetworkMode")) or "bridge"


def _main_endpoint(body: JsonObject, mode: str, version: Version) -> JsonObject:
    """Return the settings of the endpoint that ``NetworkMode`` is about, which are made if there are none at all."""
    given = _made(_made(body, "NetworkingConfig"), "EndpointsConfig")
    name = next((name for name in given if (network_mode(name) or "bridge") == mode), None)
    if name is None and given and version < (1, 44):
        name = next(iter(given))
    if name is None:
        if given:
            raise InvalidArgumentError(
                "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks"
            )
        name = mode
    return _made(given, name)


def _key(value: Mapping[str, object], name: str) -> str | None:
    """Return the key that is read as ``name``: in any case, with the exact one first."""
    if name in value:
        return name
    return next((key for key in value if key.lower() == name.lower()), None)


def _drop(value: JsonObject, name: str) -> None:
    while (key := _key(value, name)) is not None:
        del value[key]


def _set(value: JsonObject, name: str, content: object) -> None:
    value[_key(value, name) or name] = content


def _object(value: JsonObject, name: str) -> JsonObject:
    """Return an object as it is in ``value``, or one that is nowhere. Whether it is one at all is looked at later."""
    key = _key(value, name)
    found = value[key] if key is not None else None
    return found if isinstance(found, dict) else {}


def _made(value: JsonObject, name: str) -> JsonObject:
    """Return an object, which is put there if it is not."""
    key = _key(value, name) or name
    if not isinstance(value.get(key), dict):
        value[key] = {}
    made: JsonObject = value[key]
    return made


def _objects(value: JsonObject, name: str) -> list[JsonObject]:
    key = _key(value, name)
    found = value[key] if key is not None else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
