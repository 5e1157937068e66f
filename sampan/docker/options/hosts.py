"""Names that a container is to know: ``db:10.0.0.2``."""

import ipaddress
from collections.abc import Iterable
from typing import Final

from sampan.errors import InvalidArgumentError

HOST_GATEWAY: Final = "host-gateway"  # stands for the host's address on the default bridge


def parse_extra_host(entry: str) -> tuple[str, str]:
    """Read ``name:address`` or ``name=address``, an IPv6 address in brackets or without; return name and address.

    The address may be ``HOST_GATEWAY``.

    Raises:
        InvalidArgumentError: in Docker's words, it is neither.
    """
    name, separator, address = entry.partition("=" if "=" in entry.partition(":")[0] else ":")
    if not name or not separator or not address:
        raise InvalidArgumentError(f'bad format for add-host: "{entry}"')
    if address == HOST_GATEWAY:
        return name, address
    address = address.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise InvalidArgumentError(f'invalid IP address in add-host: "{address}"') from None
    return name, address


def build_hosts(entries: Iterable[str]) -> str:
    """Return ``entries`` as a build's attribute ``add-hosts`` has them. Raises: see ``parse_extra_host``."""
    return ",".join("=".join(parse_extra_host(entry)) for entry in entries)
