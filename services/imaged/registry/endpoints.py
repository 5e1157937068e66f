"""Where to ask for an image: a registry's mirrors in order, then the registry itself."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sampan.errors import InvalidArgumentError
from sampan.oci.reference import DEFAULT_REGISTRY, parse_reference
from sampan.resource.image import ANONYMOUS, Credentials
from sampan.service.config import option, required, secret, tables

# The host behind the name docker.io, as Docker documents it.
DOCKER_IO_HOST: Final = "registry-1.docker.io"

# And the one that answers searches.
DOCKER_IO_INDEX: Final = "index.docker.io"

# What `docker login` calls docker.io.
_DOCKER_IO_ALIASES: Final = frozenset({"", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"})


@dataclass(frozen=True, slots=True)
class MirrorConfig:
    """A mirror, as configured."""

    url: str = required('"https://mirror.example/prefix"; plain http is taken at its word')
    username: str = option("", "user name at the mirror")
    password: str = secret("the user's password")
    ca_file: str = option("", "certificates that sign the mirror's, besides the system's")
    insecure: bool = option(default=False, help="take https without verification")
    max_connections: int = option(0, "connections that download from the mirror at the same time; 0: the default")


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """A registry, as configured."""

    host: str = required('the registry as image names begin: "docker.io", "registry.example:5000"')
    insecure: bool = option(default=False, help="take https without verification, or plain http")
    ca_file: str = option("", "certificates that sign the registry's, besides the system's")
    mirrors: tuple[MirrorConfig, ...] = tables("mirrors to ask before the registry, in this order")
    max_connections: int = option(0, "connections that download from it at the same time; 0: connections_per_registry")


@dataclass(frozen=True, slots=True)
class Tls:
    """How to check, and convince, the other side."""

    verify: bool = True
    ca_files: tuple[Path, ...] = ()  # besides the system's
    client_certificate: Path | None = None
    client_key: Path | None = None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One place that serves a registry's content."""

    urls: tuple[str, ...]  # to try in order, without "/v2/": more than one where it may or may not speak TLS
    tls: Tls
    credentials: Credentials
    mirror: bool = False
    max_connections: int = 0  # that download at the same time; 0: the default


class Endpoints:
    """Knows the configuration."""

    def __init__(
        self,
        registries: Iterable[RegistryConfig] = (),
        certs_dirs: Iterable[Path] = (),
        docker_io_host: str = DOCKER_IO_HOST,
        insecure_networks: Iterable[str] = (),
    ) -> None:
        """Check the configuration.

        Registries at addresses in ``insecure_networks`` are insecure, unless somebody gave their certificates.

        Raises:
            InvalidArgumentError: a registry listed twice, a mirror's URL or a network that is none.
        """
        self._insecure_networks = tuple(_network(text) for text in insecure_networks)
        self._certs_dirs = tuple(certs_dirs)
        self._docker_io_host = docker_io_host
        self._configured: dict[str, RegistryConfig] = {}
        for registry in registries:
            if registry.host in self._configured:
                raise InvalidArgumentError(f"registry {registry.host!r} is configured twice")
            for mirror in registry.mirrors:
                _check_mirror(mirror)
            self._configured[registry.host] = registry

    def become(self, other: "Endpoints") -> None:
        """Know the configuration that ``other`` knows; what has been asked for before is not disturbed."""
        self._insecure_networks = other._insecure_networks
        self._certs_dirs = other._certs_dirs
        self._docker_io_host = other._docker_io_host
        self._configured = other._configured

    def of(
        self, registry: str, credentials: Credentials = ANONYMOUS, *, insecure: bool = False
    ) -> tuple[Endpoint, ...]:
        """Return where to ask for ``registry``'s content, best first.

        The caller's credentials are for the registry alone: no mirror sees them. ``insecure`` has the registry taken
        for one that is configured so.
        """
        config = self._configured.get(registry, RegistryConfig(registry))
        if insecure:
            config = replace(config, insecure=True)
        mirrors = tuple(self._mirror(mirror) for mirror in config.mirrors)
        return (*mirrors, self._registry(config, credentials))

    def search(self, registry: str, credentials: Credentials) -> Endpoint:
        """Return where to search: Docker's own registry has a host of its own for it."""
        endpoint = self.of(registry, credentials)[-1]
        if registry == DEFAULT_REGISTRY and self._docker_io_host == DOCKER_IO_HOST:
            return replace(endpoint, urls=(f"https://{DOCKER_IO_INDEX}",))
        return endpoint

    def login(self, registry: str, credentials: Credentials) -> Endpoint:
        """Return where to check credentials for a registry, named as `docker login` names it.

        Raises:
            InvalidArgumentError: not a registry's name.
        """
        name = registry.removeprefix("https://").removeprefix("http://").partition("/")[0]
        if registry in _DOCKER_IO_ALIASES:
            name = DEFAULT_REGISTRY
        elif parse_reference(f"{name}/x").registry != name:
            raise InvalidArgumentError(f"invalid registry {registry!r}: expected host[:port]")
        return self.of(name, credentials)[-1]

    def _mirror(self, mirror: MirrorConfig) -> Endpoint:
        host = urlsplit(mirror.url).netloc
        tls = self._tls(host, mirror.ca_file, insecure=mirror.insecure)
        credentials = Credentials(mirror.username, mirror.password)
        urls = (mirror.url.rstrip("/"),)
        return Endpoint(urls, tls, credentials, mirror=True, max_connections=mirror.max_connections)

    def _registry(self, config: RegistryConfig, credentials: Credentials) -> Endpoint:
        host = self._docker_io_host if config.host == DEFAULT_REGISTRY else config.host
        tls = self._tls(host, config.ca_file, insecure=config.insecure)
        # Whoever gave a CA for such a host means https.
        trusted = tls.ca_files or tls.client_certificate
        if config.insecure or (self._is_taken_on_trust(host) and not trusted):
            urls: tuple[str, ...] = (f"https://{host}", f"http://{host}")
            tls = Tls(False, (), tls.client_certificate, tls.client_key)
        else:
            urls = (f"https://{host}",)
        return Endpoint(urls, tls, credentials, max_connections=config.max_connections)

    def _is_taken_on_trust(self, host: str) -> bool:
        address = _address(host)
        return is_loopback(host) or (address is not None and any(address in one for one in self._insecure_networks))

    def _tls(self, host: str, ca_file: str, *, insecure: bool) -> Tls:
        """Gather the host's certificates: ``<certs dir>/<host>/*.crt``, and pairs of ``.cert`` and ``.key``."""
        ca_files = [Path(ca_file)] if ca_file else []
        certificate = key = None
        for directory in (parent / host for parent in self._certs_dirs):
            ca_files += sorted(directory.glob("*.crt"))
            for candidate in sorted(directory.glob("*.cert")):
                if certificate is None and candidate.with_suffix(".key").exists():
                    certificate, key = candidate, candidate.with_suffix(".key")
        return Tls(not insecure, tuple(ca_files), certificate, key)


def _check_mirror(mirror: MirrorConfig) -> None:
    parts = urlsplit(mirror.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise InvalidArgumentError(f"mirror {mirror.url!r}: expected http(s)://host[:port][/prefix]")


def is_loopback(host: str) -> bool:
    """Say whether ``host[:port]`` is this machine, by its name alone."""
    address = _address(host)
    return urlsplit(f"//{host}").hostname == "localhost" if address is None else address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return the address that ``host[:port]`` is; None: it is a name."""
    try:
        return ipaddress.ip_address(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidArgumentError(f"insecure_networks: {text!r} is no network: {error}") from None
