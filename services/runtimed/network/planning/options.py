"""The options of drivers: which there are, and what they may say. What has no effect is refused by name. No I/O."""

import re
from collections.abc import Collection
from dataclasses import replace
from ipaddress import ip_address
from typing import Final

from runtimed.network.core.model import (
    BRIDGE,
    GATEWAY_MODES,
    IPVLAN,
    ISOLATED,
    MACVLAN,
    OPTION_BRIDGE_NAME,
    OPTION_DEFAULT_BRIDGE,
    OPTION_ENABLE,
    OPTION_ENDPOINT_INTERFACE,
    OPTION_ENDPOINT_SYSCTLS,
    OPTION_GATEWAY_MODE,
    OPTION_HOST_BINDING,
    OPTION_HOST_IPV4,
    OPTION_HOST_IPV6,
    OPTION_ICC,
    OPTION_INHIBIT_IPV4,
    OPTION_INTERFACE_PREFIX,
    OPTION_IPVLAN_FLAG,
    OPTION_IPVLAN_MODE,
    OPTION_MACVLAN_MODE,
    OPTION_MASQUERADE,
    OPTION_MTU,
    OPTION_PARENT,
    OPTION_TRUSTED,
    VLAN,
    WIRED,
    Network,
)
from runtimed.network.kernel import sysctls, vlan
from sampan.docker.booleans import SPELLINGS, parse_bool
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Endpoint
from sampan.resource.network import NetworkRequest

_WHOLE: Final = re.compile(r"-?[0-9]{1,9}")
_MTU: Final = range(68, 65536)  # ETH_MIN_MTU, ETH_MAX_MTU
_INTERFACE: Final = re.compile(r'[^\s/:"*\\]{1,15}')  # as the kernel has it, but for what means something in rules
_PREFIX: Final = re.compile(r"[^\s/:%]{1,12}")  # leaves room for a number
_NAME_INSIDE: Final = re.compile(r"[^\s/:%]{1,15}")

_OF_ALL: Final = (OPTION_MTU, OPTION_INTERFACE_PREFIX, *OPTION_ENABLE.values())
_OF_DRIVER: Final = {
    BRIDGE: (
        *_OF_ALL,
        *OPTION_GATEWAY_MODE.values(),
        OPTION_BRIDGE_NAME,
        OPTION_DEFAULT_BRIDGE,
        OPTION_HOST_BINDING,
        OPTION_HOST_IPV4,
        OPTION_HOST_IPV6,
        OPTION_ICC,
        OPTION_INHIBIT_IPV4,
        OPTION_MASQUERADE,
        OPTION_TRUSTED,
    ),
    MACVLAN: (*_OF_ALL, OPTION_PARENT, OPTION_MACVLAN_MODE),
    IPVLAN: (*_OF_ALL, OPTION_PARENT, OPTION_IPVLAN_MODE, OPTION_IPVLAN_FLAG),
}
_OF_ENDPOINT: Final = (OPTION_ENDPOINT_INTERFACE, OPTION_ENDPOINT_SYSCTLS)
_SWITCHES: Final = (
    OPTION_DEFAULT_BRIDGE,
    OPTION_ICC,
    OPTION_INHIBIT_IPV4,
    OPTION_MASQUERADE,
    *OPTION_ENABLE.values(),
)


def check(request: NetworkRequest) -> None:
    """Raise InvalidArgumentError for an option that the driver does not have, or that says what it cannot say.

    A configuration for other networks may hold the options of any driver.
    """
    options = request.options
    known = _OF_DRIVER[request.driver or BRIDGE] if not request.config_only else _any_driver()
    _check_known(options, known, f"the {request.driver or BRIDGE} driver")
    _check_mtu(options.get(OPTION_MTU, ""))
    for option in _SWITCHES:
        if option in options:
            parse_bool(options[option], option)
    if SPELLINGS.get(options.get(OPTION_DEFAULT_BRIDGE, "")):
        raise InvalidArgumentError(f"invalid {OPTION_DEFAULT_BRIDGE}: there is one default bridge, and it is there")
    bridge = options.get(OPTION_BRIDGE_NAME, "")
    if bridge and (not _INTERFACE.fullmatch(bridge) or bridge in (".", "..")):
        raise InvalidArgumentError(
            f'invalid bridge name {bridge!r}: 1 to 15 characters without spaces and any of /:"*\\'
        )
    for interface in trusted(options.get(OPTION_TRUSTED, "")):
        if not _INTERFACE.fullmatch(interface):
            raise InvalidArgumentError(f"invalid {OPTION_TRUSTED}: {interface!r} is no interface's name")
    prefix = options.get(OPTION_INTERFACE_PREFIX, "")
    if prefix and not _PREFIX.fullmatch(prefix):
        raise InvalidArgumentError(f"invalid {OPTION_INTERFACE_PREFIX} {prefix!r}: 1 to 12 characters of a name")
    for option, version in ((OPTION_HOST_BINDING, 4), (OPTION_HOST_IPV4, 4), (OPTION_HOST_IPV6, 6)):
        _check_address(options.get(option, ""), version, option)
    for option in OPTION_GATEWAY_MODE.values():
        mode = options.get(option, "")
        if mode and mode not in GATEWAY_MODES:
            raise InvalidArgumentError(f"unknown gateway mode {mode}: {option} is one of {', '.join(GATEWAY_MODES)}")
        if mode == ISOLATED and not request.internal:
            raise InvalidArgumentError("gateway mode 'isolated' can only be used for an internal network")
    if request.driver in VLAN:
        vlan.check_options(request.driver, options)


def check_endpoint(network: Network, endpoint: Endpoint) -> None:
    """Raise InvalidArgumentError for an option of an endpoint that has no effect on ``network``, or says nonsense."""
    if network.driver not in WIRED:
        _check_unwired(endpoint)
    for text in endpoint.link_local_ips:
        _check_link_local(text)
    tuple(sysctls.of_endpoint(endpoint.driver_options, "IFNAME"))
    name = endpoint.driver_options.get(OPTION_ENDPOINT_INTERFACE, "")
    if name and (not _NAME_INSIDE.fullmatch(name) or name in (".", "..", "lo")):
        raise InvalidArgumentError(f"invalid config for network {network.name}: interface name {name!r} is not valid")
    for option in endpoint.driver_options:
        if option not in _OF_ENDPOINT:
            raise InvalidArgumentError(
                f"invalid endpoint settings:\ndriver option {option} of network {network.name} is not supported"
            )


def as_asked(request: NetworkRequest) -> NetworkRequest:
    """Return a request whose families are those that its options say, where they say it."""
    v4, v6 = (SPELLINGS.get(request.options.get(OPTION_ENABLE[version], "")) for version in (4, 6))
    return replace(
        request,
        disable_ipv4=request.disable_ipv4 or v4 is False,
        enable_ipv6=request.enable_ipv6 or v6 is True,
    )


def trusted(text: str) -> tuple[str, ...]:
    """Return the host's interfaces from which containers are reached directly, as the option lists them."""
    return tuple(text.split(":")) if text else ()


def _any_driver() -> Collection[str]:
    return {option for options in _OF_DRIVER.values() for option in options}


def _check_known(options: Collection[str], known: Collection[str], whose: str) -> None:
    for option in options:
        if option not in known:
            import difflib  # only for those who have made a mistake

            near = next(iter(difflib.get_close_matches(option, known, 1, 0.7)), "")
            hint = f", did you mean {near}?" if near else ""
            raise InvalidArgumentError(f"invalid driver option {option!r}: {whose} has no such option{hint}")


def _check_unwired(endpoint: Endpoint) -> None:
    asked = {
        "mac-address": bool(endpoint.mac_address),
        "link-local-ip": bool(endpoint.link_local_ips),
        "gw-priority": bool(endpoint.gw_priority),
        **{f"driver option {option}": True for option in endpoint.driver_options},
    }
    for option, given in asked.items():
        if given:
            raise InvalidArgumentError(f"conflicting options: {option} and the network mode")


def _check_link_local(text: str) -> None:
    try:
        local = ip_address(text).is_link_local
    except ValueError:
        local = False
    if not local:
        raise InvalidArgumentError(f"invalid link local IP address: {text}")


def _check_address(text: str, version: int, option: str) -> None:
    try:
        fits = not text or ip_address(text).version == version
    except ValueError:
        fits = False
    if not fits:
        raise InvalidArgumentError(f"invalid {option} {text!r}: expected an IPv{version} address")


def _check_mtu(text: str) -> None:
    if text and not _WHOLE.fullmatch(text):
        raise InvalidArgumentError(f"failed to parse {OPTION_MTU} value: {text}: it is no whole number")
    if text and int(text) and int(text) not in _MTU:
        raise InvalidArgumentError(
            f"invalid MTU number: {text}: {OPTION_MTU} is from {_MTU.start} to {_MTU.stop - 1}, or 0 for the kernel's"
        )
