"""What the configuration says of networks: of the one that every engine has, and of those that users make."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv4Network
from typing import Final

from runtimed.network.core.model import OPTION_ICC, OPTION_MTU, Network, Pool
from runtimed.network.planning import options
from sampan.errors import InvalidArgumentError
from sampan.resource.network import NetworkRequest

_USUAL_MTU: Final = 1500  # what Docker shows where nothing is said


@dataclass(frozen=True, slots=True)
class DefaultBridge:
    """What the network ``bridge`` is to be."""

    pool: Pool | None = None  # its addresses; None: some that nobody uses
    mtu: int = 0  # 0: as usual
    icc: bool = True  # whether its containers reach each other

    def of(self, network: Network) -> Network:
        """Return ``network`` with the options that are wanted."""
        said = {OPTION_ICC: "true" if self.icc else "false", OPTION_MTU: str(self.mtu or _USUAL_MTU)}
        return replace(network, options={**network.options, **said})

    def beneath(self, network: Network) -> Network:
        """Return ``network`` with what can change while containers are on it."""
        return replace(network, options={**network.options, OPTION_ICC: self.of(network).options[OPTION_ICC]})

    def keeps(self, network: Network) -> bool:
        """Whether the addresses of ``network`` are such as are wanted, if nobody else has taken them."""
        if self.pool is not None:
            return network.pools == (self.pool,)
        return not network.pools[0].asked_for


def make_default_bridge(*, bip: str, fixed_cidr: str, mtu: int, icc: bool) -> DefaultBridge:
    """Return what dockerd's options of the same names say.

    Raises:
        InvalidArgumentError: a value that no bridge could have; the message names the key.
    """
    options.check(NetworkRequest("bridge", options={OPTION_MTU: str(mtu)}))
    if not bip:
        if fixed_cidr:
            raise InvalidArgumentError(f"fixed_cidr: {fixed_cidr!r} is a part of bip's network: set bip, too")
        return DefaultBridge(None, mtu, icc)
    try:
        own = IPv4Interface(bip)
    except ValueError:
        own = None
    if own is None or "/" not in bip or own.network.prefixlen > 30 or own.ip in _ends(own.network):
        raise InvalidArgumentError(f"bip: {bip!r} is no address of a host with its network: 10.9.0.1/24")
    if own.is_loopback or own.is_multicast or own.is_unspecified:
        raise InvalidArgumentError(f"bip: {bip!r} cannot be a bridge's address")
    return DefaultBridge(Pool(own.network, own.ip, _part(fixed_cidr, own.network)), mtu, icc)


def _ends(network: IPv4Network) -> tuple[object, object]:
    return network.network_address, network.broadcast_address


def _part(text: str, whole: IPv4Network) -> IPv4Network | None:
    if not text:
        return None
    try:
        part = IPv4Network(text)
    except ValueError:
        raise InvalidArgumentError(f"fixed_cidr: {text!r} is no network") from None
    if not part.subnet_of(whole):
        raise InvalidArgumentError(f"fixed_cidr: {text} is not in {whole}, bip's network")
    return part


def parse_default_options(texts: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
    """Read options that networks of a driver get which do not say otherwise, as ``driver=option=value``.

    Raises:
        InvalidArgumentError: an option that the driver does not have, or that says what it cannot say.
    """
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        driver, _, rest = text.partition("=")
        option, equals, value = rest.partition("=")
        if not (driver and option and equals):
            raise InvalidArgumentError(f"default_network_opts: {text!r} is not driver=option=value")
        found.setdefault(driver, {})[option] = value
    for driver, said in found.items():
        try:
            options.check(NetworkRequest("default", driver=driver, options=said))
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"default_network_opts: {error}") from error
        except KeyError:
            raise InvalidArgumentError(f"default_network_opts: no driver {driver!r} has options") from None
    return found
