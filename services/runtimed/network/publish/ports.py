"""Published ports: what is asked for, which host ports are taken, and the sockets that keep them ours.

Rules in the kernel forward a published port; no process stands in between. But then nothing would stop another
program from listening on it and never hearing a word, so the engine holds a bound socket for each: whoever tries gets
EADDRINUSE. An IPv6 one also takes what the kernel cannot forward, see ``relay.py``.
"""

import contextlib
import errno
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from runtimed.network.core.model import Address
from runtimed.network.kernel.rules import ANY, ANY6
from runtimed.network.publish.keeping import NOTHING_KEPT, KeptSockets
from sampan.docker.options.ports import PROTOCOLS, parse_port
from sampan.errors import InvalidArgumentError, StartError
from sampan.resource.container import PublishedPort
from sampan.resource.container_spec import ContainerSpec, PortBinding

_EPHEMERAL: Final = (32768, 60999)  # the kernel's default for ip_local_port_range
_BACKLOG: Final = 128
_EPHEMERAL_FILE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(frozen=True, slots=True)
class Exposed:
    """A container port that is known and not published."""

    port: int
    protocol: str


def parse_exposed(text: str) -> Exposed:
    """Read ``80`` or ``80/tcp``. Raises InvalidArgumentError: it is neither."""
    return Exposed(*parse_port(text))


def requests(spec: ContainerSpec, default_host_ip: str = "") -> tuple[PortBinding, ...]:
    """Return what the container publishes, those that it only exposes included if it publishes all.

    Raises:
        InvalidArgumentError: a bad port, address or protocol.
    """
    wanted = list(spec.ports)
    if spec.publish_all_ports:
        named = {(binding.container_port, binding.protocol) for binding in wanted}
        exposed = [parse_exposed(text) for text in spec.exposed_ports]
        wanted += [PortBinding(e.port, e.protocol) for e in exposed if (e.port, e.protocol) not in named]
    return tuple(_checked(binding, default_host_ip) for binding in wanted)


def exposed_only(spec: ContainerSpec, published: Sequence[PublishedPort]) -> tuple[PublishedPort, ...]:
    """Return the exposed ports that are not published, as settings show them."""
    known = {(port.container_port, port.protocol) for port in published}
    exposed = {parse_exposed(text) for text in spec.exposed_ports}
    missing = sorted((e.port, e.protocol) for e in exposed if (e.port, e.protocol) not in known)
    return tuple(PublishedPort(port, protocol) for port, protocol in missing)


def _checked(binding: PortBinding, default_host_ip: str) -> PortBinding:
    # What is said of no address is published on all of both families, unless the network says another one.
    binding = replace(binding, host_ip=binding.host_ip or default_host_ip.replace(str(ANY), ""))
    last = binding.host_port_end or binding.host_port
    if not 0 < binding.container_port <= 65535:
        raise InvalidArgumentError(f"invalid container port {binding.container_port}: expected 1 to 65535")
    if not 0 <= binding.host_port <= last <= 65535:
        raise InvalidArgumentError(f"invalid host port {binding.host_port}-{last}: expected 1 to 65535, ascending")
    if binding.protocol not in PROTOCOLS:
        raise InvalidArgumentError(f"invalid protocol {binding.protocol!r}: expected tcp, udp or sctp")
    if binding.host_ip:
        try:
            ip_address(binding.host_ip)
        except ValueError:
            raise InvalidArgumentError(f"invalid host address {binding.host_ip!r}") from None
    return binding


@dataclass(frozen=True, slots=True)
class Reach:
    """How a container's ports can be published in each family."""

    v4: bool = True  # on IPv4 addresses of the host
    v6: bool = False  # on IPv6 ones
    direct: frozenset[int] = frozenset()  # families, 4 or 6, whose addresses are reached as they are: nothing is taken

    def addresses(self, binding: PortBinding) -> tuple[Address, ...]:
        """Return the host's addresses that a binding is about.

        Raises:
            StartError: it names one that cannot lead to the container.
        """
        if binding.host_ip:
            address = ip_address(binding.host_ip)
            if not (self.v4 if address.version == 4 else self.v6):
                raise StartError(
                    f"invalid port mapping {binding.host_ip}:{binding.host_port or ''}:{binding.container_port}/"
                    f"{binding.protocol}: the container is not reached by IPv{address.version}"
                )
            return (address,)
        return ((ANY,) if self.v4 else ()) + ((ANY6,) if self.v6 else ())


def hosts_ipv6() -> bool:
    """Tell whether programs of this machine can listen on IPv6 addresses."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


class PortTable:
    """Which host ports are taken, by whom; holds a socket for each."""

    def __init__(self, kept: KeptSockets = NOTHING_KEPT) -> None:
        """``kept`` is where sockets are left that have to outlive this process."""
        self._kept = kept
        self._held: dict[tuple[str, int, Address], tuple[str, socket.socket | None]] = {}
        self._next = 0

    def reserve(
        self,
        owner: str,
        bindings: Iterable[PortBinding],
        endpoint: str,
        reach: Reach = Reach(),  # frozen
    ) -> tuple[PublishedPort, ...]:
        """Take a host port for each binding, the same of each family; all or none.

        Args:
            owner: container ID, for ``release``.
            bindings: as ``requests`` returns them.
            endpoint: ``<container name> (<endpoint ID>)``, for the message.
            reach: by which families the container is reached.

        Raises:
            StartError: one is taken, or the address is not the host's; Docker's words.
        """
        taken: list[PublishedPort] = []
        try:
            for binding in bindings:
                addresses = reach.addresses(binding)
                held = tuple(address for address in addresses if address.version not in reach.direct)
                port = self._take(owner, binding, held) if held else 0
                taken += [
                    PublishedPort(binding.container_port, binding.protocol, str(a), port if a in held else 0)
                    for a in addresses
                ]
        except StartError as error:
            for published in taken:
                if published.host_port:
                    self._close(_key(published))
            raise StartError(
                f"driver failed programming external connectivity on endpoint {endpoint}: {error}"
            ) from error
        return tuple(taken)

    def reacquire(self, owner: str, ports: Iterable[PublishedPort]) -> tuple[PublishedPort, ...]:
        """After a restart: take what a running container has; return what another program has got hold of meanwhile.

        Those are ours all the same: the rules in the kernel come before that program.
        """
        lost = []
        for port in ports:
            if not port.host_port:
                continue
            key = _key(port)
            try:
                self._held[key] = (owner, self._kept.take(_name(key)) or self._hold(key))
            except OSError:
                self._held[key] = (owner, None)
                lost.append(port)
        return tuple(lost)

    def release(self, owner: str) -> None:
        """Give back all that the container has."""
        for key in [key for key, (holder, _) in self._held.items() if holder == owner]:
            self._close(key)

    def close(self) -> None:
        """Close every socket of this process; what is kept stays for the next one."""
        for _, held in self._held.values():
            if held is not None:
                held.close()
        self._held.clear()

    def held(self, port: PublishedPort) -> socket.socket | None:
        """Return the socket that is held for a published port."""
        _, sock = self._held.get(_key(port), ("", None))
        return sock

    def _close(self, key: tuple[str, int, Address]) -> None:
        _, held = self._held.pop(key)
        if held is not None:
            held.close()
            if _serves(key):
                self._kept.drop(_name(key))

    def _hold(self, key: tuple[str, int, Address]) -> socket.socket | None:
        held = _hold(*key)
        if held is not None and _serves(key):
            self._kept.keep(_name(key), held)
        return held

    def _take(self, owner: str, binding: PortBinding, addresses: Sequence[Address]) -> int:
        if binding.host_port and not binding.host_port_end > binding.host_port:
            self._take_all(owner, binding.protocol, binding.host_port, addresses)
            return binding.host_port
        for port in self._choices(binding):
            with contextlib.suppress(StartError):
                self._take_all(owner, binding.protocol, port, addresses)
                return port
        raise StartError("all ports are allocated")

    def _take_all(self, owner: str, protocol: str, port: int, addresses: Sequence[Address]) -> None:
        taken = []
        try:
            for address in addresses:
                self._take_one(owner, protocol, port, address)
                taken.append(address)
        except StartError:
            for address in taken:
                self._close((protocol, port, address))
            raise

    def _choices(self, binding: PortBinding) -> Iterator[int]:
        if binding.host_port:
            yield from range(binding.host_port, binding.host_port_end + 1)
            return
        first, last = ephemeral_range()
        # Onward from the last one given out: a port that was just let go rests for a while, since clients may still
        # talk to whoever had it.
        start = self._next if first <= self._next <= last else first
        for port in (*range(start, last + 1), *range(first, start)):
            self._next = port + 1
            yield port

    def _take_one(self, owner: str, protocol: str, port: int, address: Address) -> None:
        place = f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"
        for held_protocol, held_port, held in self._held:
            same = (held_protocol, held_port, held.version) == (protocol, port, address.version)
            if same and (held == address or ANY in (held, address) or ANY6 in (held, address)):
                raise StartError(f"Bind for {place} failed: port is already allocated")
        try:
            self._held[protocol, port, address] = (owner, self._hold((protocol, port, address)))
        except OSError as error:
            reasons = {
                errno.EADDRINUSE: "address already in use",
                errno.EADDRNOTAVAIL: "cannot assign requested address",
                errno.EACCES: "permission denied",
            }
            reason = reasons.get(error.errno or 0, error.strerror)
            raise StartError(f"listen {protocol}{address.version} {place}: bind: {reason}") from error


def ephemeral_range() -> tuple[int, int]:
    """Return the first and last port that the kernel gives out itself."""
    try:
        first, last = _EPHEMERAL_FILE.read_text().split()
    except OSError:
        return _EPHEMERAL
    return int(first), int(last)


def _key(port: PublishedPort) -> tuple[str, int, Address]:
    return port.protocol, port.host_port, ip_address(port.host_ip)


def _serves(key: tuple[str, int, Address]) -> bool:
    """Whether a relay may read from the socket, which to others is a placeholder for the kernel's rules."""
    protocol, _, address = key
    return address.version == 6 and protocol in ("tcp", "udp")


def _name(key: tuple[str, int, Address]) -> str:
    protocol, port, address = key
    return f"{protocol}/{port}/{address}"


def _hold(protocol: str, port: int, address: Address) -> socket.socket | None:
    """Return a socket that nobody can bind beside, or None where the kernel has no such protocol."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    number = socket.IPPROTO_SCTP if protocol == "sctp" else 0
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        held = socket.socket(family, kind | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, number)
    except OSError as error:
        if error.errno == errno.EPROTONOSUPPORT:
            return None
        raise
    try:
        if address.version == 6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        serves = address.version == 6 and protocol == "tcp"
        if serves:
            # Connections that an earlier runtimed took linger; those of a socket that allowed it do not keep us out.
            # Who listens does so alone all the same.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind((str(address), port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or protocol == "udp":
                raise
            # Perhaps only connections of an earlier server linger there (TIME_WAIT). SO_REUSEADDR looks past those,
            # and past other bound sockets that set it as well; listening finds these out.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((str(address), port))
            held.listen(0)
        if serves:
            held.listen(_BACKLOG)
    except OSError:
        held.close()
        raise
    return held
