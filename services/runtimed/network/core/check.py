"""Which networks can be made: what is asked for, before anything is chosen. No I/O."""

import re
from ipaddress import ip_address
from typing import Final

from runtimed.network.core.model import (
    BRIDGE,
    DRIVERS,
    GATEWAY_MODES,
    ISOLATED,
    OPTION_BRIDGE_NAME,
    OPTION_GATEWAY_MODE,
    OPTION_HOST_BINDING,
    OPTION_HOST_IPV4,
    OPTION_HOST_IPV6,
    OPTION_ICC,
    OPTION_INTERFACE_PREFIX,
    OPTION_MASQUERADE,
    OPTION_MTU,
    PREDEFINED,
    VLAN,
)
from runtimed.network.kernel import vlan
from sampan import limits
from sampan.docker.booleans import parse_bool
from sampan.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError
from sampan.resource.network import NetworkRequest

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_WHOLE: Final = re.compile(r"-?[0-9]{1,9}")
_MTU: Final = range(68, 65536)  # ETH_MIN_MTU, ETH_MAX_MTU
_INTERFACE: Final = re.compile(r'[^\s/:"*\\]{1,15}')  # as the kernel has it, but for what means something in rules
_PREFIX: Final = re.compile(r"[^\s/:%]{1,12}")  # leaves room for a number


def check_request(request: NetworkRequest) -> None:
    """Raise what is wrong with a request.

    Raises:
        InvalidArgumentError: a bad name, address or option.
        NotFoundError: an unknown driver.
        PermissionDeniedError: a predefined name.
    """
    _check_name(request.name)
    limits.check_labels(request.labels, "labels")
    limits.check_labels(request.options, "options")
    limits.check_record(request, "network")
    if request.name in PREDEFINED:
        raise PermissionDeniedError(f"operation is not permitted on predefined {request.name} network")
    if request.config_only:
        _check_configuration(request)
    elif request.driver not in ("", *DRIVERS):
        raise NotFoundError(f'plugin "{request.driver}" not found')
    elif request.driver not in ("", BRIDGE, *VLAN):
        raise PermissionDeniedError(f'only one instance of "{request.driver}" network is allowed')
    if request.ipam_driver not in ("", "default"):
        raise NotFoundError(f'plugin "{request.ipam_driver}" not found')
    _check_families(request)
    _check_options(request)
    if len([pool for pool in request.pools if pool.subnet]) not in (0, len(request.pools)):
        raise InvalidArgumentError("every pool of a network with several needs a subnet")
    if request.pools and not request.pools[0].subnet and (request.pools[0].gateway or request.pools[0].ip_range):
        raise InvalidArgumentError("a gateway or an ip-range needs a subnet")


def check_depending(request: NetworkRequest) -> None:
    """Raise PermissionDeniedError if a request names a configuration and says itself what is there."""
    if request.config_only:
        raise PermissionDeniedError("a configuration network cannot depend on another configuration network")
    if request.options or request.pools or request.ipam_options or request.enable_ipv6:
        raise PermissionDeniedError(
            "user specified configurations are not supported if the network depends on a configuration network"
        )


def _check_name(name: str) -> None:
    """Docker takes any name that is not blank; what would break lines of output is refused."""
    if not name.strip():
        raise InvalidArgumentError(f"invalid name: {name.strip()}")
    if _CONTROL.search(name):
        raise InvalidArgumentError(f"invalid network name {name!r}: it has control characters in it")
    limits.check_name(name, "network name")


def _check_configuration(request: NetworkRequest) -> None:
    if request.config_from:
        check_depending(request)
    if request.internal or request.attachable:
        raise PermissionDeniedError(
            "configuration network can only contain network specific fields. "
            "Network operator fields like [ ingress | internal | attachable | scope ] are not supported."
        )


def _check_families(request: NetworkRequest) -> None:
    if request.disable_ipv4 and not request.enable_ipv6:
        raise InvalidArgumentError("IPv4 or IPv6 must be enabled")
    for pool in request.pools:
        version = 6 if ":" in pool.subnet else 4
        enabled = request.enable_ipv6 if version == 6 else not request.disable_ipv4
        if pool.subnet and not enabled:
            raise InvalidArgumentError(
                f"invalid network config:\ninvalid subnet {pool.subnet}: IPv{version} is not enabled for this network"
            )


def _check_options(request: NetworkRequest) -> None:
    options = request.options
    _check_mtu(options.get(OPTION_MTU, ""))
    for option in (OPTION_ICC, OPTION_MASQUERADE):
        if option in options:
            parse_bool(options[option], option)
    bridge = options.get(OPTION_BRIDGE_NAME, "")
    if bridge and (not _INTERFACE.fullmatch(bridge) or bridge in (".", "..")):
        raise InvalidArgumentError(
            f'invalid bridge name {bridge!r}: 1 to 15 characters without spaces and any of /:"*\\'
        )
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
