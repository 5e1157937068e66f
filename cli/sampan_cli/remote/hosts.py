"""Hosts: where an engine is, as ``-H`` and contexts say it, and what TLS is spoken with there."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgumentError

_PLAIN_PORT: Final = 2375
_TLS_PORT: Final = 2376
# What ssh would take for an option, or a shell for something else.
_SAFE: Final = re.compile(r"[A-Za-z0-9_.%+~:-]+")


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """What is shown to an engine, and by what it is known."""

    ca: str = ""  # files; empty: none
    cert: str = ""
    key: str = ""
    verify: bool = True  # that the engine is who its certificate says


@dataclass(frozen=True, slots=True)
class UnixHost:
    """The Docker API's socket of an engine on this machine."""

    path: Path

    def __str__(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True, slots=True)
class TcpHost:
    """An engine at a port, with TLS if there is material for it."""

    host: str
    port: int
    tls: TlsMaterial | None = None

    def __str__(self) -> str:
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SshHost:
    """An engine behind ssh, whose command ``sampan`` passes on what comes."""

    host: str
    user: str = ""
    port: int | None = None
    socket: str = ""  # the Docker API's socket there; empty: that of the default engine

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port is not None else ""
        return f"ssh://{user}{self.host}{port}{self.socket}"

    @property
    def command(self) -> list[str]:
        """What is run here."""
        options = ["-o", "ConnectTimeout=30", "-T"]
        options += ["-l", self.user] if self.user else []
        options += ["-p", str(self.port)] if self.port is not None else []
        there = ["sampan", *(["--host", f"unix://{self.socket}"] if self.socket else []), "system", "dial-stdio"]
        return ["ssh", *options, "--", self.host, *there]


Host = UnixHost | TcpHost | SshHost


def parse_host(text: str, tls: TlsMaterial | None = None) -> Host:
    """Read ``unix:///path``, ``tcp://host:port`` or ``ssh://user@host``.

    Raises:
        InvalidArgumentError: it is none of these.
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "unix" and rest.startswith("/"):
        return UnixHost(Path(rest))
    if not separator or scheme not in ("tcp", "ssh"):
        raise InvalidArgumentError(
            f"{text!r} is no engine that sampan reaches: unix:///run/sampan/docker.sock, tcp://HOST:PORT or ssh://HOST"
        )
    from urllib.parse import urlsplit  # which commands of this machine's engine need not wait for

    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"{text!r} cannot be read: {error}") from None
    if not host or parts.query or parts.fragment or parts.password is not None:
        raise InvalidArgumentError(f"{text!r}: a host is written {scheme}://HOST:PORT, and nothing else belongs there")
    if scheme == "ssh":
        return _ssh(text, host, port, parts.username or "", parts.path)
    if parts.path not in ("", "/") or parts.username is not None:
        raise InvalidArgumentError(f"{text!r}: nothing but host and port is understood")
    return TcpHost(host, port or (_TLS_PORT if tls else _PLAIN_PORT), tls)


def _ssh(text: str, host: str, port: int | None, user: str, path: str) -> SshHost:
    for part in (host, user, path.replace("/", "")):
        if part and (part.startswith("-") or not _SAFE.fullmatch(part)):
            raise InvalidArgumentError(f"{text!r}: {part!r} is nothing that ssh is given")
    return SshHost(host, user, port, path if path != "/" else "")


@dataclass(frozen=True, slots=True)
class TlsFlags:
    """What was said of TLS; None and empty: nothing."""

    tls: bool = False
    verify: bool | None = None
    ca: str = ""
    cert: str = ""
    key: str = ""

    @property
    def given(self) -> bool:
        """Whether anything was said."""
        return self != TlsFlags()

    def material(self, environ: Mapping[str, str], config: Path) -> TlsMaterial | None:
        """Return what is spoken with, as the docker command finds it; None: TLS is not spoken.

        Files are those named, else those of ``$DOCKER_CERT_PATH`` or the configuration directory ``config``. Saying
        ``--tlsverify=false`` is to speak TLS as well, and to believe whoever answers.

        Raises:
            InvalidArgumentError: a file that was named, or that says who the engine is, cannot be read.
        """
        verify = self.verify if self.verify is not None else bool(environ.get("DOCKER_TLS_VERIFY"))
        if not (self.tls or verify or self.verify is not None or environ.get("DOCKER_TLS")):
            if named := next((f"--tls{name}" for name in ("ca", "cert", "key") if getattr(self, name)), ""):
                full = "--tlscacert" if named == "--tlsca" else named
                raise InvalidArgumentError(f"{full} is given, and TLS is not asked for: --tls or --tlsverify does")
            return None
        directory = Path(environ.get("DOCKER_CERT_PATH") or config)
        ca = _file("--tlscacert", self.ca, directory / "ca.pem", needed=True) if verify else ""
        cert = _file("--tlscert", self.cert, directory / "cert.pem")
        key = _file("--tlskey", self.key, directory / "key.pem")
        if bool(cert) != bool(key):
            raise InvalidArgumentError(f"a certificate takes its key: there is {cert or key} alone")
        return TlsMaterial(ca, cert, key, verify)


def _file(flag: str, named: str, default: Path, *, needed: bool = False) -> str:
    path = Path(named) if named else default
    try:
        with path.open("rb"):
            return str(path)
    except FileNotFoundError:
        if not (named or needed):
            return ""
        raise InvalidArgumentError(f"{flag} {path}: no such file") from None
    except OSError as error:
        raise InvalidArgumentError(f"{flag} {path}: {(error.strerror or str(error)).lower()}") from None
