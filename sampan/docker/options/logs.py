"""Log drivers and their options, as Docker's clients name them."""

import re
from collections.abc import Mapping
from typing import Final

from sampan.docker.sizes import parse_decimal_size
from sampan.errors import InvalidArgumentError
from sampan.pattern import Pattern
from sampan.resource.container_spec import LogConfig

DEFAULT_DRIVER: Final = "json-file"
DRIVERS: Final = ("json-file", "local", "none")

# What the drivers of these names take in Docker; those that only label or compress are accepted and change nothing.
_KNOWN: Final = frozenset(
    ("max-size", "max-file", "compress", "labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size")
)

_FILES: Final = re.compile(r"[0-9]{1,9}")
_MOST_BYTES: Final = 2**63 - 1


def check_log(config: LogConfig) -> None:
    """Validate a container's logging.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    if config.driver not in ("", *DRIVERS):
        raise InvalidArgumentError(f"logger: no log driver named '{config.driver}' is registered")
    for name in config.options:
        if name not in _KNOWN:
            raise InvalidArgumentError(f"unknown log opt '{name}' for {config.driver or DEFAULT_DRIVER} log driver")
    size, files = _size(config.options.get("max-size", "")), _files(config.options.get("max-file", ""))
    if size * files > _MOST_BYTES:
        raise InvalidArgumentError(f"invalid value for max-file: {files} files of {size} bytes are too much to keep")
    for name in ("labels-regex", "env-regex"):
        if expression := config.options.get(name):
            try:
                Pattern(expression)
            except InvalidArgumentError as error:
                raise InvalidArgumentError(f"invalid value for {name}: {error}") from error


def max_log_bytes(options: Mapping[str, str]) -> int:
    """Return how much of its output a container keeps: one file's size times the files; 0 is all."""
    return _size(options.get("max-size", "")) * _files(options.get("max-file", ""))


def _size(text: str) -> int:
    if text in ("", "-1"):
        return 0
    try:
        size = parse_decimal_size(text)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"invalid value for max-size: {text}: {error}") from error
    if size == 0:
        raise InvalidArgumentError(f"invalid value for max-size: {text}: it must be positive")
    return size


def _files(text: str) -> int:
    if not text:
        return 1
    if not _FILES.fullmatch(text) or int(text) < 1:
        raise InvalidArgumentError(f"invalid value for max-file: {text}")
    return int(text)
