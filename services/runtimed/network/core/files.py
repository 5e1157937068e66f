"""What a container finds in /etc/hosts, /etc/hostname and /etc/resolv.conf. Text in, text out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Dns

EMBEDDED_RESOLVER: Final = "127.0.0.11"

# Docker's last resort where the host names no server that a container can reach.
FALLBACK_SERVERS: Final = ("8.8.8.8", "8.8.4.4")

_DEFAULT_HOSTS: Final = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)


@dataclass(frozen=True, slots=True)
class Resolv:
    """A parsed resolv.conf(5)."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse_resolv(text: str) -> Resolv:
    """Read a resolv.conf; what is not understood is skipped, as the C library does."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        match words:
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search" | "domain", *names]:
                search = tuple(names)
            case ["options", *more]:
                options += more
    return Resolv(tuple(servers), search, tuple(options))


def reachable_servers(servers: Iterable[str], *, ipv6: bool = False) -> tuple[str, ...]:
    """Return the servers that are not on a loopback address, which in a container is its own; with ``ipv6`` all."""
    found = []
    for server in servers:
        try:
            address = ip_address(server.partition("%")[0])
        except ValueError:
            continue
        if (address.version == 4 or (ipv6 and "%" not in server)) and not address.is_loopback:
            found.append(server)
    return tuple(found)


def upstream_servers(host: Resolv, dns: Dns, *, ipv6: bool = False) -> tuple[str, ...]:
    """Return whom to ask for names outside: the container's own choice, else the host's, else the last resort."""
    return dns.servers or reachable_servers(host.servers, ipv6=ipv6) or FALLBACK_SERVERS


def resolv_conf(host: Resolv, dns: Dns, *, embedded: bool, ipv6: bool = False) -> bytes:
    """Return a container's resolv.conf.

    Args:
        host: the host's.
        dns: what the user asked for; wins, part by part. A search list of just "." is an empty one.
        embedded: ask the engine's resolver instead of the servers.
        ipv6: whether the container reaches servers by that.
    """
    servers = (EMBEDDED_RESOLVER,) if embedded else upstream_servers(host, dns, ipv6=ipv6)
    search = () if dns.search == (".",) else dns.search or host.search
    options = dns.options or host.options
    if embedded and not any(option.startswith("ndots:") for option in options):
        options = (*options, "ndots:0")  # names of containers have no dots: ask for them before adding domains
    lines = [f"nameserver {server}" for server in servers]
    if search:
        lines.append("search " + " ".join(search))
    if options:
        lines.append("options " + " ".join(options))
    return ("\n".join(lines) + "\n").encode()


def check_dns(dns: Dns) -> None:
    """Raise InvalidArgumentError for a server that is no address."""
    for server in dns.servers:
        try:
            ip_address(server)
        except ValueError:
            raise InvalidArgumentError(f"{server} is not an ip address") from None


def hosts(entries: Sequence[tuple[str, str]], own: Sequence[str], hostname: str, domainname: str) -> bytes:
    """Return a container's hosts file.

    Args:
        entries: further lines, address and names.
        own: the container's own addresses.
        hostname: its name.
        domainname: with which the name is complete; may be empty.
    """
    if domainname:
        names = f"{hostname}.{domainname} {hostname}"
    else:
        # A host name with dots is a complete one; its first part is a name too, as in Docker.
        names = f"{hostname} {hostname.partition('.')[0]}" if "." in hostname else hostname
    lines = [*_DEFAULT_HOSTS, *entries, *((address, names) for address in own)]
    return "".join(f"{address}\t{name}\n" for address, name in lines).encode()
