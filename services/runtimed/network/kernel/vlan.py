"""macvlan and ipvlan: interfaces of containers that share one of the host's, by hardware address or by IP address.

Reference: Linux Documentation/networking/ipvlan.rst, linux/if_link.h.
"""

from collections.abc import Callable, Mapping
from typing import Final

from runtimed.network.core.model import (
    IPVLAN,
    MACVLAN,
    OPTION_IPVLAN_FLAG,
    OPTION_IPVLAN_MODE,
    OPTION_MACVLAN_MODE,
    OPTION_PARENT,
    Network,
)
from runtimed.network.kernel.rtnetlink import Rtnetlink
from sampan.errors import InvalidArgumentError, StartError

_MACVLAN_MODES: Final = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES: Final = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAGS: Final = {"bridge": 0, "private": 1, "vepa": 2}
_TAGS: Final = range(1, 4095)

# By driver: the option, its values, the one that holds if it is not given.
_OPTIONS: Final = {
    MACVLAN: ((OPTION_MACVLAN_MODE, _MACVLAN_MODES, "bridge", "mode"),),
    IPVLAN: (
        (OPTION_IPVLAN_MODE, _IPVLAN_MODES, "l2", "mode"),
        (OPTION_IPVLAN_FLAG, _IPVLAN_FLAGS, "bridge", "flag"),
    ),
}


def check_options(driver: str, options: Mapping[str, str]) -> None:
    """Raise InvalidArgumentError, in Docker's words, for a mode or a parent that there is not."""
    for option, values, default, what in _OPTIONS[driver]:
        value = options.get(option, "")
        if value and value not in values:
            raise InvalidArgumentError(
                f"requested {driver} {what} '{value}' is not valid, '{default}' {what} is the {driver} driver default"
            )
    if options.get(OPTION_PARENT, "") == "lo":
        raise InvalidArgumentError(f"loopback interface is not a valid {driver} parent link")


def add(host: Rtnetlink, network: Network, parent: int, name: str, mac: str, netns_fd: int) -> None:
    """Give a namespace an interface that shares ``parent``. Raises StartError, in Docker's words."""
    options = network.options
    try:
        if network.driver == MACVLAN:
            mode = _MACVLAN_MODES[options.get(OPTION_MACVLAN_MODE) or "bridge"]
            host.add_macvlan(name, parent, mac, mode, netns_fd, network.mtu)
        else:
            mode = _IPVLAN_MODES[options.get(OPTION_IPVLAN_MODE) or "l2"]
            flag = _IPVLAN_FLAGS[options.get(OPTION_IPVLAN_FLAG) or "bridge"]
            host.add_ipvlan(name, parent, mode, flag, netns_fd, network.mtu)
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise StartError(f"failed to create the {network.driver} port: {reason}") from error


def make_parent(host: Rtnetlink, network: Network) -> None:
    """Make the interface that a network's containers share: a dummy, or a VLAN of another one, as its name says.

    Raises:
        InvalidArgumentError: its name is not that of a VLAN, or its own parent is not there.
        StartError: the kernel has no such interfaces.
    """
    if not network.options.get(OPTION_PARENT):
        _in_kernel(lambda: host.add_dummy(network.parent), "dummy", network.parent)
        return
    above, dot, tag = network.parent.rpartition(".")
    if not dot or not above or "." in above:
        raise InvalidArgumentError(f"invalid subinterface vlan name {network.parent}, example formatting is eth0.10")
    if not tag.isdecimal() or int(tag) not in _TAGS:
        raise InvalidArgumentError(f"vlan id must be between {_TAGS.start}-{_TAGS.stop - 1}, received: {tag}")
    link = host.find(above)
    if link is None:
        raise InvalidArgumentError(f"-o parent interface does was not found on the host: {above}")
    _in_kernel(lambda: host.add_vlan(network.parent, link.index, int(tag)), "vlan", network.parent)


def _in_kernel(make: Callable[[], None], kind: str, name: str) -> None:
    try:
        make()
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise StartError(f"failed to create the {kind} interface {name}: {reason}") from error
