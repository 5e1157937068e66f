"""Receivers of logs: the options of the drivers that send, checked as dockerd checks them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sampan.docker.durations import parse_duration
from sampan.errors import InvalidArgumentError

FACILITIES: Final = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"),
)
SYSLOG_FORMATS: Final = ("", "rfc3164", "rfc5424", "rfc5424micro")
_FLUENTD_PORT: Final = 24224
_SYSLOG_PORT: Final = 514
_FLUENTD_UNUSED: Final = {
    "fluentd-buffer-limit": "output waits on disk; max-buffer-size with mode=non-blocking limits it in bytes",
    "fluentd-async-reconnect-interval": "a connection is made anew when it has broken",
}
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_BOOLEANS: Final = ("1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False")


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where a log is sent."""

    scheme: str  # udp, tcp, tls, unix, unixgram
    host: str = ""
    port: int = 0
    path: str = ""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a receiver that is away is waited for. ``tries`` 0: for ever; else so many fail before output goes."""

    first_pause_s: float = 0.25  # doubled with each try
    last_pause_s: float = 5.0
    tries: int = 0


def patience(driver: str, options: Mapping[str, str]) -> Patience:
    """Return what the options say, which are valid; where they say nothing a receiver is waited for, for ever."""
    usual = Patience()
    if driver == "gelf":
        delay = options.get("gelf-tcp-reconnect-delay")
        first_s, last_s = (usual.first_pause_s, usual.last_pause_s) if delay is None else (float(delay),) * 2
        return Patience(first_s, last_s, int(options.get("gelf-tcp-max-reconnect", "0")))
    if driver == "fluentd":
        wait_s = _seconds(options, "fluentd-retry-wait") or usual.first_pause_s
        return Patience(wait_s, max(wait_s, usual.last_pause_s), int(options.get("fluentd-max-retries", "0")))
    return usual


def fluentd_timeouts_s(options: Mapping[str, str]) -> tuple[float, float]:
    """Return the seconds that an answer and a write may take; 0: the usual time."""
    return _seconds(options, "fluentd-read-timeout"), _seconds(options, "fluentd-write-timeout")


def _seconds(options: Mapping[str, str], name: str) -> float:
    return max(parse_duration(options.get(name) or "0"), 0) / 1e9


def syslog_receiver(options: Mapping[str, str]) -> Receiver:
    """Return where syslog's messages go; without a path a unix socket is the machine's own syslog.

    Raises:
        InvalidArgumentError: no address that dockerd would take.
    """
    address = options.get("syslog-address", "")
    if not address:
        return Receiver("unixgram")
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in ("udp", "tcp", "tcp+tls", "unix", "unixgram"):
        raise InvalidArgumentError(f"syslog-address should be in form proto://address, got {address}")
    if scheme in ("unix", "unixgram"):
        if not rest.startswith("/"):
            raise InvalidArgumentError(f"syslog-address should be in form proto://address, got {address}")
        return Receiver(scheme, path=rest)
    return _network("tls" if scheme == "tcp+tls" else scheme, address, _SYSLOG_PORT, "syslog-address")


def check_syslog(options: Mapping[str, str]) -> None:
    """Validate them. Raises InvalidArgumentError."""
    syslog_receiver(options)
    syslog_facility(options)
    if (form := options.get("syslog-format", "")) not in SYSLOG_FORMATS:
        raise InvalidArgumentError(f"Invalid syslog format: {form}")
    for name in ("syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key"):
        if (path := options.get(name)) and not Path(path).is_file():
            raise InvalidArgumentError(f"invalid value for {name}: open {path}: no such file or directory")


def syslog_facility(options: Mapping[str, str]) -> int:
    """Return the number of the facility. Raises InvalidArgumentError."""
    name = options.get("syslog-facility", "") or "daemon"
    if name in FACILITIES:
        return FACILITIES.index(name)
    if name.isdecimal() and int(name) < len(FACILITIES):
        return int(name)
    raise InvalidArgumentError("invalid syslog facility")


def gelf_receiver(options: Mapping[str, str]) -> Receiver:
    """Return where GELF's messages go. Raises InvalidArgumentError."""
    address = options.get("gelf-address", "")
    if not address:
        raise InvalidArgumentError("gelf-address is a required parameter")
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in ("udp", "tcp") or not rest:
        raise InvalidArgumentError(f"gelf-address should be in form proto://address, got {address}")
    return _network(scheme, address, 0, "gelf-address")


def check_gelf(options: Mapping[str, str]) -> None:
    """Validate them. Raises InvalidArgumentError."""
    receiver = gelf_receiver(options)

    def refuse(name: str) -> InvalidArgumentError:
        return InvalidArgumentError(f'unknown value "{options[name]}" for log opt "{name}" for gelf log driver')

    for name in ("gelf-compression-level", "gelf-compression-type"):
        if name in options and receiver.scheme != "udp":
            raise InvalidArgumentError("compression is only supported on UDP")
    if options.get("gelf-compression-type", "gzip") not in ("gzip", "zlib", "none"):
        raise refuse("gelf-compression-type")
    level = options.get("gelf-compression-level", "1")
    if not _NUMBER.fullmatch(level) or not -1 <= int(level) <= 9:
        raise refuse("gelf-compression-level")
    for name in ("gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"):
        if name in options:
            if receiver.scheme != "tcp":
                raise InvalidArgumentError(f'"{name}" is only valid for TCP')
            if not _NUMBER.fullmatch(options[name]) or int(options[name]) < 0:
                raise InvalidArgumentError(f'"{name}" must be a positive integer')


def fluentd_receiver(options: Mapping[str, str]) -> Receiver:
    """Return where records for fluentd go. Raises InvalidArgumentError."""
    address = options.get("fluentd-address", "")
    if not address:
        return Receiver("tcp", "127.0.0.1", _FLUENTD_PORT)
    if "://" not in address:
        address = f"tcp://{address}"
    scheme, _, rest = address.partition("://")
    if scheme == "unix":
        if not rest.strip("/"):
            raise InvalidArgumentError("invalid fluentd-address: path is empty")
        return Receiver("unix", path=rest)
    if scheme not in ("tcp", "tls"):
        raise InvalidArgumentError(f"invalid fluentd-address {address}: unsupported scheme: '{scheme}'")
    return _network(scheme, address, _FLUENTD_PORT, "fluentd-address")


def check_fluentd(options: Mapping[str, str]) -> None:
    """Validate them. Raises InvalidArgumentError."""
    fluentd_receiver(options)
    if "fluentd-async" in options and "fluentd-async-connect" in options:
        raise InvalidArgumentError(
            "conflicting options: cannot specify both 'fluentd-async' and 'fluentd-async-connect'"
        )
    for name in ("async", "async-connect", "request-ack", "sub-second-precision"):
        text = options.get(f"fluentd-{name}", "")
        if text and text not in _BOOLEANS:
            raise InvalidArgumentError(
                f'invalid value for fluentd-{name}: strconv.ParseBool: parsing "{text}": invalid syntax'
            )
    for name, instead in _FLUENTD_UNUSED.items():
        if options.get(name):
            raise InvalidArgumentError(f"{name} is not supported by this engine: {instead}")
    for name in ("retry-wait", "read-timeout", "write-timeout"):
        if text := options.get(f"fluentd-{name}", ""):
            try:
                parse_duration(text)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"invalid value for fluentd-{name}: {error}") from error
    retries = options.get("fluentd-max-retries", "0")
    if not retries.isdecimal() or len(retries) > 9:
        raise InvalidArgumentError(
            f'invalid value for fluentd-max-retries: strconv.ParseUint: parsing "{retries}": invalid syntax'
        )


def _network(scheme: str, address: str, default_port: int, option: str) -> Receiver:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise InvalidArgumentError(f"invalid value for {option}: {address}: {error}") from error
    if port is None and not default_port:
        raise InvalidArgumentError(f"invalid value for {option}: address {parts.netloc}: missing port in address")
    return Receiver(scheme, host or "localhost", port or default_port)
