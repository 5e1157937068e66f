"""Who is called what: names as a container sees them, from the sandboxes that there are."""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from runtimed.network.core.model import Address, Attached, Sandbox


class Directory:
    """Names and addresses on users' networks. It looks at ``sandboxes`` as they are at the time of the question."""

    def __init__(self, sandboxes: Mapping[str, Sandbox]) -> None:
        self._sandboxes = sandboxes

    def addresses(self, asker: str, name: str, version: int = 4) -> tuple[Address, ...] | None:
        """Return the addresses of a family of ``name`` on the networks of ``asker``; None: nobody is called that.

        A name is a container's, an alias, a short ID, a link's alias of the asker's own, or any of these followed by
        the network's name.
        """
        own = self._sandboxes.get(asker)
        found: list[Attached] = []
        for mine in own.endpoints if own else ():
            if not mine.state.dns_names:
                continue
            wanted = name.removesuffix("." + mine.state.network.lower())
            linked = _linked(mine, wanted)
            found += [
                other
                for other in self._on(mine.state.network_id)
                if _is_called(other, wanted) or (linked and _is_called(other, linked))
            ]
        if not found:
            return None
        return tuple(dict.fromkeys(ip_address(text) for each in found if (text := each.address(version))))

    def name(self, asker: str, address: Address) -> str | None:
        """Return the name of whoever has ``address`` on one of the asker's networks: ``<container>.<network>``."""
        own = self._sandboxes.get(asker)
        for mine in own.endpoints if own else ():
            if mine.state.dns_names:
                for other in self._on(mine.state.network_id):
                    if other.address(address.version) == str(address):
                        return f"{other.state.dns_names[0]}.{other.state.network}"
        return None

    def leads_out(self, asker: str) -> bool:
        """Tell whether the container has a way to the world, and so any business with names out there."""
        own = self._sandboxes.get(asker)
        return own is not None and bool(own.gateway_endpoint or own.gateway6_endpoint)

    def _on(self, network_id: str) -> Iterator[Attached]:
        endpoints = (sandbox.on(network_id) for sandbox in self._sandboxes.values())
        return (attached for attached in endpoints if attached is not None)


def _is_called(attached: Attached, name: str) -> bool:
    return any(known.lower() == name for known in attached.state.dns_names)


def _linked(attached: Attached, alias: str) -> str:
    """Return whom the asker calls ``alias`` through a link."""
    for link in attached.state.requested.links:
        target, _, name = link.partition(":")
        if (name.rpartition("/")[2] or target).lower() == alias:
            return target.lstrip("/").lower()
    return ""
