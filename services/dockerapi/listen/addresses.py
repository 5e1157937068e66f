"""Where the Docker Engine API is served, as it is written in the configuration, and what is refused there."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dockerapi.http.connection import Entrance
from sampan.errors import InvalidArgumentError

_PLAIN_PORT: Final = 2375
_TLS_PORT: Final = 2376
_LONGEST_SOCKET_PATH: Final = 107  # sun_path with its NUL is 108 bytes


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """``unix:///run/other.sock``."""

    path: Path

    def __str__(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """``tcp://host:port``; an empty host is every address of the machine."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine gets there. A name may become anything, but for ``localhost``."""
        return is_loopback(self.host)


@dataclass(frozen=True, slots=True)
class InheritedAddress:
    """``fd://``: the sockets that systemd passes; ``fd://name`` or ``fd://3``: one of them."""

    which: str

    def __str__(self) -> str:
        return f"fd://{self.which}"


Address = UnixAddress | TcpAddress | InheritedAddress


@dataclass(frozen=True, slots=True)
class Wanted:
    """One address, who may use it, and what those may do there."""

    address: Address
    group: str
    entrance: Entrance


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """What TLS is spoken with; empty paths are none."""

    cert: str = ""
    key: str = ""
    ca: str = ""  # who signs clients' certificates
    crl: str = ""  # those that it has revoked
    verify: bool = True  # clients show a certificate

    @property
    def wanted(self) -> bool:
        """Whether TLS is spoken at all."""
        return bool(self.cert or self.key)

    @property
    def tells_clients_apart(self) -> bool:
        """Whether nobody gets in without a certificate."""
        return self.wanted and self.verify

    def check(self) -> None:
        """Raise InvalidArgumentError for files that are no use without others."""
        if bool(self.cert) != bool(self.key):
            missing, given = ("tls_key", "tls_cert") if self.cert else ("tls_cert", "tls_key")
            raise InvalidArgumentError(f"{given} is set and {missing} is not: TLS takes both")
        if self.wanted and self.verify and not self.ca:
            raise InvalidArgumentError(
                "tls_ca is not set: clients cannot be told from strangers without it; "
                "tls_verify = false says that everybody may come in"
            )
        for name, value in (("tls_ca", self.ca), ("tls_crl", self.crl)):
            if value and not self.tells_clients_apart:
                raise InvalidArgumentError(f"{name} is set, but no client is asked for a certificate")


def parse(text: str, *, tls: bool) -> Address:
    """Read one address of ``listen``. ``tls`` says which port is meant where none is written.

    Raises:
        InvalidArgumentError: it is none.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in ("unix", "tcp", "fd"):
        raise InvalidArgumentError(f"listen: {text!r} is no address: unix:///path, tcp://host:port or fd://")
    if scheme == "fd":
        return InheritedAddress(rest)
    if scheme == "unix":
        if not rest.startswith("/") or "\0" in rest:
            raise InvalidArgumentError(f"listen: {text!r}: the path of a socket is absolute")
        if len(rest.encode(errors="surrogateescape")) > _LONGEST_SOCKET_PATH:
            raise InvalidArgumentError(f"listen: {text!r}: the path has more than {_LONGEST_SOCKET_PATH} bytes")
        return UnixAddress(Path(rest))
    return _parse_tcp(text, rest, _TLS_PORT if tls else _PLAIN_PORT)


def _parse_tcp(text: str, rest: str, default_port: int) -> TcpAddress:
    host, port = rest, ""
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise InvalidArgumentError(f"listen: {text!r}: an IPv6 address is written [address]:port")
        port = port[1:]
    elif rest.count(":") <= 1:
        host, _, port = rest.partition(":")
    else:
        raise InvalidArgumentError(f"listen: {text!r}: an IPv6 address is written [address]:port")
    if "/" in host or "/" in port or "@" in host or host != host.strip():
        raise InvalidArgumentError(f"listen: {text!r}: nothing but host and port is understood")
    if not port:
        return TcpAddress(host, default_port)
    if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 1 << 16):
        raise InvalidArgumentError(f"listen: {text!r}: a port is a number from 1 to 65535")
    return TcpAddress(host, int(port))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_strangers(where: object, *, loopback: bool, files: TlsFiles, allowed: bool) -> None:
    """Refuse to let strangers in: who can speak to this API is root on the machine.

    Raises:
        InvalidArgumentError: the address can be reached from elsewhere, and nobody has to show a certificate.
    """
    if loopback or allowed or files.tells_clients_apart:
        return
    how = "TLS without client certificates" if files.wanted else "plain TCP"
    raise InvalidArgumentError(
        f"listen: {where} would give root on this machine to everybody who can reach it: {how} is refused off "
        "loopback. Set tls_cert, tls_key and tls_ca (sampan system certs makes them), or, if it is really wanted, "
        "allow_unauthenticated_tcp = true"
    )


def parse_all(texts: Iterable[str], files: TlsFiles, *, allow_unauthenticated: bool) -> tuple[Address, ...]:
    """Read ``listen`` and refuse what would let strangers in; see ``parse`` and ``check_strangers``."""
    files.check()
    found: list[Address] = []
    for text in texts:
        address = parse(text, tls=files.wanted)
        if address in found:
            raise InvalidArgumentError(f"listen: {text!r} is there twice")
        if isinstance(address, TcpAddress):
            check_strangers(address, loopback=address.is_loopback, files=files, allowed=allow_unauthenticated)
        found.append(address)
    return tuple(found)
