"""Log drivers and their options, as Docker's clients name them, and what of a container goes with each line."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote_plus

from sampan.docker.options.log_receivers import check_fluentd, check_gelf, check_syslog
from sampan.docker.sizes import parse_decimal_size, parse_size
from sampan.errors import InvalidArgumentError
from sampan.pattern import Pattern
from sampan.resource.container import Container
from sampan.resource.container_spec import LogConfig

DEFAULT_DRIVER: Final = "json-file"

_ATTRIBUTES: Final = frozenset(("labels", "labels-regex", "env", "env-regex", "tag"))
_FILES: Final = frozenset(("max-size", "max-file", "compress"))
_MODES: Final = frozenset(("mode", "max-buffer-size"))  # of all but none

_SYSLOG: Final = ("address", "facility", "tls-ca-cert", "tls-cert", "tls-key", "tls-skip-verify", "format")
_FLUENTD: Final = (
    *("address", "async", "async-connect", "async-reconnect-interval", "buffer-limit", "max-retries", "request-ack"),
    *("retry-wait", "sub-second-precision", "read-timeout", "write-timeout"),
)
_GELF: Final = ("address", "compression-level", "compression-type", "tcp-max-reconnect", "tcp-reconnect-delay")

KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "json-file": _FILES | _ATTRIBUTES,
    "local": _FILES,
    "journald": _ATTRIBUTES,
    "syslog": _ATTRIBUTES | {f"syslog-{name}" for name in _SYSLOG},
    "fluentd": _ATTRIBUTES | {f"fluentd-{name}" for name in _FLUENTD},
    "gelf": _ATTRIBUTES | {f"gelf-{name}" for name in _GELF},
    "none": frozenset(),
}
DRIVERS: Final = tuple(KNOWN)

# A pod's: a file of the form that kubelet reads, at ``path``. Not one of Docker's.
CRI: Final = "cri"

# Where they keep nothing that could be read again, what is sent is kept in files beside it.
_CACHE: Final = frozenset(("cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"))
SENDING: Final = ("journald", "syslog", "fluentd", "gelf")
_CHECKS: Final[Mapping[str, Callable[[Mapping[str, str]], None]]] = {
    "syslog": check_syslog,
    "fluentd": check_fluentd,
    "gelf": check_gelf,
}

_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_MOST_BYTES: Final = 2**63 - 1
_TRUE: Final = ("1", "t", "T", "TRUE", "true", "True")
_FALSE: Final = ("0", "f", "F", "FALSE", "false", "False")
DEFAULT_BUFFER_BYTES: Final = 1_000_000
_LOCAL: Final = {"max-size": "20m", "max-file": "5", "compress": "true"}


@dataclass(frozen=True, slots=True)
class KeptFiles:
    """How much of a log is kept in files."""

    size_bytes: int  # of one; 0: one without end
    files: int
    compress: bool


def check_log(config: LogConfig, owner: str = "") -> None:
    """Validate a container's logging; an ``owner`` may have the driver ``cri``.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    driver = config.driver or DEFAULT_DRIVER
    if driver == CRI and owner:
        path = config.options.get("path", "")
        if config.options.keys() != {"path"} or not path.startswith("/") or "\0" in path:
            raise InvalidArgumentError(f"log driver {CRI} has one option, path, which is absolute")
        return
    if driver not in KNOWN:
        raise InvalidArgumentError(f"logger: no log driver named '{driver}' is registered")
    options = config.options
    if driver != "none":  # which looks at none of them
        _check_names(driver, options)
        buffer_bytes(options)
        for name in ("labels-regex", "env-regex"):
            if expression := options.get(name):
                try:
                    Pattern(expression)
                except InvalidArgumentError as error:
                    raise InvalidArgumentError(f"invalid value for {name}: {error}") from error
        check_tag(options.get("tag", ""))
        kept_files(config)
        if driver in _CHECKS:
            _CHECKS[driver](options)


def _check_names(driver: str, options: Mapping[str, str]) -> None:
    known = KNOWN[driver] | _MODES | (_CACHE if driver in SENDING else frozenset())
    for name in sorted(options):
        if name not in known:
            # Each driver of dockerd has words of its own.
            if driver == "local":
                raise InvalidArgumentError(f"unknown log opt '{name}' for log driver local")
            quoted = f'"{name}"' if driver == "gelf" else f"'{name}'"
            raise InvalidArgumentError(f"unknown log opt {quoted} for {driver} log driver")


def buffer_bytes(options: Mapping[str, str]) -> int:
    """Return how much output may wait for a receiver; 0 where the container waits instead.

    Raises:
        InvalidArgumentError: no such mode; no size, or one that needs another mode.
    """
    mode, size = options.get("mode", ""), options.get("max-buffer-size", "")
    if mode not in ("", "blocking", "non-blocking"):
        raise InvalidArgumentError(f"logger: logging mode not supported: {mode}")
    if mode != "non-blocking":
        if size:
            raise InvalidArgumentError("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        return 0
    try:
        return parse_size(size) if size else DEFAULT_BUFFER_BYTES
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"logger: error parsing option max-buffer-size: {error}") from error


def caches(options: Mapping[str, str]) -> bool:
    """Whether what is sent elsewhere is kept as well. Raises InvalidArgumentError."""
    return not _flag(options, "cache-disabled", default=False)


def kept_files(config: LogConfig) -> KeptFiles:
    """Return how much of a container's log is kept in files, by the driver or beside one that sends.

    Raises:
        InvalidArgumentError: no such sizes, or some that do not go together.
    """
    driver, options, prefix = config.driver or DEFAULT_DRIVER, dict(config.options), ""
    if driver != "json-file":
        prefix = "cache-" if driver in SENDING else ""
        options = {f"{prefix}{name}": value for name, value in _LOCAL.items()} | options
    given = {name: options.get(prefix + name, "") for name in _FILES}
    size = _size(given["max-size"], binary=driver != "json-file")
    files = _count(given["max-file"])
    if size * files > _MOST_BYTES:
        raise InvalidArgumentError(f"invalid value for max-file: {files} files of {size} bytes are too much to keep")
    compress = _flag(options, prefix + "compress", default=False)
    if driver == "json-file" and compress and (files < 2 or not size):
        raise InvalidArgumentError("compress cannot be true when max-file is less than 2 or max-size is not set")
    return KeptFiles(size, files, compress and files > 1)


def _size(text: str, *, binary: bool) -> int:
    if text in ("", "-1"):
        return 0
    try:
        size = parse_size(text) if binary else parse_decimal_size(text)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"invalid value for max-size: {text}: {error}") from error
    if size == 0:
        raise InvalidArgumentError(f"invalid value for max-size: {text}: it must be positive")
    return size


def _count(text: str) -> int:
    if not text:
        return 1
    if not _NUMBER.fullmatch(text) or int(text) < 1:
        raise InvalidArgumentError(f"invalid value for max-file: {text}")
    return int(text)


def _flag(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = options.get(name, "")
    if text and text not in (*_TRUE, *_FALSE):
        raise InvalidArgumentError(f'invalid value for {name}: strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _TRUE if text else default


_DEFAULT_TAG: Final = "{{.ID}}"
_TAG_FIELDS: Final = ("ID", "FullID", "Name", "ImageName", "ImageID", "ImageFullID", "DaemonName", "Command", "Created")
_TAG_ACTION: Final = re.compile(r"\{\{-?\s*(.*?)\s*-?\}\}")
_TAG_FIELD: Final = re.compile(r"\.(\w+)")


def check_tag(template: str) -> None:
    """Validate a ``tag``. Raises InvalidArgumentError: it asks for more than the fields of a container."""
    render_tag(template, dict.fromkeys(_TAG_FIELDS, ""))


def render_tag(template: str, fields: Mapping[str, str]) -> str:
    """Put a container's fields, by their names in Docker's templates, into a ``tag``.

    Raises:
        InvalidArgumentError: it asks for something else.
    """

    def value(found: "re.Match[str]") -> str:
        field = _TAG_FIELD.fullmatch(found[1])
        if field is None or field[1] not in fields:
            raise InvalidArgumentError(f"invalid value for tag: {template}: no such field of a container: {found[1]}")
        return fields[field[1]]

    rendered = _TAG_ACTION.sub(value, template)
    if "{{" in rendered and "{{" in _TAG_ACTION.sub("", template):
        raise InvalidArgumentError(f"invalid value for tag: {template}: unclosed action")
    return rendered


def _fields(container: Container) -> dict[str, str]:
    spec = container.spec
    return {
        "ID": container.short_id,
        "FullID": container.id,
        "Name": container.name,
        "ImageName": spec.image,
        "ImageID": spec.image_id.removeprefix("sha256:")[:12],
        "ImageFullID": spec.image_id,
        "DaemonName": "docker",
        "Command": " ".join(spec.process.args),
        "Created": container.created.isoformat(),
    }


def tag_of(container: Container) -> str:
    """Return what a container's log is tagged with; its short ID if nothing else is asked for."""
    return render_tag(container.spec.log.options.get("tag") or _DEFAULT_TAG, _fields(container))


def attributes_of(container: Container) -> dict[str, str]:
    """Return the labels and variables that the options of a container's log choose."""
    spec, options = container.spec, container.spec.log.options
    variables = dict(text.partition("=")[::2] for text in spec.process.env)
    return {**dict(_chosen(spec.labels, options, "labels")), **dict(_chosen(variables, options, "env"))}


def details_of(container: Container) -> bytes:
    """Return what clients put before each line if they are asked for details, at least a space."""
    chosen = attributes_of(container)
    if container.spec.log.options.get("tag"):
        chosen["tag"] = tag_of(container)
    return ",".join(f"{quote_plus(key)}={quote_plus(chosen[key])}" for key in sorted(chosen)).encode() + b" "


def _chosen(values: Mapping[str, str], options: Mapping[str, str], name: str) -> Iterator[tuple[str, str]]:
    """Yield the members of ``values`` that the options ``name``, a list, and ``name``-regex ask for."""
    names = options.get(name, "").split(",")
    expression = options.get(f"{name}-regex", "")
    matches = Pattern(expression).found_in if expression else _nothing
    for key, value in values.items():
        if key in names or matches(key):
            yield key, value


def _nothing(_key: str) -> bool:
    return False
