"""Which networks can be made: what is asked for, before anything is chosen. No I/O."""

import re
from typing import Final

from runtimed.network.core.model import BRIDGE, DRIVERS, PREDEFINED, VLAN
from runtimed.network.planning import options
from sampan import limits
from sampan.errors import InvalidArgumentError, NotFoundError, PermissionDeniedError
from sampan.resource.network import NetworkRequest

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


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
    if request.name in (*PREDEFINED, "default"):
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
    options.check(request)
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
