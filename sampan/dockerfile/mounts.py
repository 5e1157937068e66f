"""``RUN --mount`` and ``RUN --device``: comma-separated records of keys and values.

Reference: the Dockerfile reference, "RUN --mount". Values may hold variables, which are put in when the step is made.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sampan.docker.booleans import parse_bool
from sampan.docker.comma_fields import comma_fields
from sampan.docker.sizes import parse_size
from sampan.dockerfile.words import did_you_mean
from sampan.errors import InvalidArgumentError

_TYPES: Final = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARINGS: Final = ("shared", "private", "locked")
_MAX_INT64: Final = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class RunMount:
    """One mount of a step. Paths may hold variables."""

    type: str = "bind"
    target: str = ""
    source: str = ""  # bind, cache: a path in what it comes from
    from_stage: str = ""  # bind, cache: a stage, an image or a named context
    read_only: bool | None = None  # None: a bind is, a cache is not
    id: str = ""  # cache, secret, ssh
    sharing: str = "shared"  # cache
    required: bool = False  # secret, ssh
    env: str = ""  # secret: a variable instead of a file
    mode: int | None = None  # cache, secret, ssh
    uid: int | None = None
    gid: int | None = None
    size_bytes: int = 0  # tmpfs; 0 is no limit


@dataclass(frozen=True, slots=True)
class RunDevice:
    """A CDI device of a step."""

    name: str
    required: bool = False


def parse_device(text: str) -> RunDevice:
    """Parse ``vendor/class=device[,required]``.

    Raises:
        InvalidArgumentError: no name, or an unknown key.
    """
    name, required = "", False
    for item in text.split(","):
        key, equals, value = item.partition("=")
        if key == "required":
            required = _truth(key, value if equals else "true")
        elif key == "name" and equals:
            name = value
        elif not name:
            name = item
        else:
            hint = did_you_mean(key, ("name", "required"))
            raise InvalidArgumentError(f"unexpected key '{key}' in '{item}'{hint}")
    if not name:
        raise InvalidArgumentError(f"invalid device {json.dumps(text)}: a name is required")
    return RunDevice(name, required)


def parse_run_mount(text: str) -> RunMount:
    """Parse ``type=cache,target=/root/.cache``.

    Raises:
        InvalidArgumentError: in BuildKit's words, an unknown key or type, a key of another type, a bad value.
    """
    try:
        fields = comma_fields(text)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"failed to parse mount {json.dumps(text)}: {error}") from error
    values: dict[str, str] = {}
    for item in fields:
        key, equals, value = item.partition("=")
        key = _ALIASES.get(key.strip().lower(), key.strip().lower())
        if not equals:
            if key not in ("readonly", "rw", "required"):
                raise InvalidArgumentError(f"invalid field '{item}' must be a key=value pair")
            value = "true"
        if key not in _KEYS:
            hint = did_you_mean(key, (*_KEYS, *_ALIASES))
            raise InvalidArgumentError(f"unexpected key '{key}' in '{item}'{hint}")
        values[key] = value
    kind = values.pop("type", "bind").lower()
    if kind not in _TYPES:
        raise InvalidArgumentError(f'unsupported mount type "{kind}"{did_you_mean(kind, _TYPES)}')
    for key in values:
        if kind not in _KEYS[key]:
            raise InvalidArgumentError(f"unexpected key '{key}' for mount type '{kind}'")
    return _mount(kind, values)


_ALIASES: Final = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "readwrite": "rw"}

# Which types have a key.
_KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "type": _TYPES,
    "target": _TYPES,
    "source": ("bind", "cache", "secret"),
    "from": ("bind", "cache"),
    "readonly": ("bind", "cache"),
    "rw": ("bind", "cache"),
    "id": ("cache", "secret", "ssh"),
    "sharing": ("cache",),
    "required": ("secret", "ssh"),
    "env": ("secret",),
    "mode": ("cache", "secret", "ssh"),
    "uid": ("cache", "secret", "ssh"),
    "gid": ("cache", "secret", "ssh"),
    "size": ("tmpfs",),
}


def _mount(kind: str, values: Mapping[str, str]) -> RunMount:
    read_only: bool | None = None
    if "readonly" in values:
        read_only = _truth("readonly", values["readonly"])
    if "rw" in values:
        read_only = not _truth("rw", values["rw"])
    sharing = values.get("sharing", "shared").lower()
    if sharing not in _SHARINGS:
        raise InvalidArgumentError(f'unsupported sharing value "{sharing}"{did_you_mean(sharing, _SHARINGS)}')
    target = values.get("target", "")
    if kind == "secret" and not (target or values.get("id") or values.get("source") or values.get("env")):
        raise InvalidArgumentError("invalid secret mount. one of source, target required")
    source = values.get("source", "")
    if "$" in values.get("from", ""):
        raise InvalidArgumentError("'from' doesn't support variable expansion, define alias stage instead")
    return RunMount(
        type=kind,
        target=target,
        source="" if kind == "secret" else source,
        from_stage=values.get("from", ""),
        read_only=read_only,
        id=values.get("id", source if kind == "secret" else ""),
        sharing=sharing,
        required=_truth("required", values.get("required", "false")),
        env=values.get("env", ""),
        mode=_number("mode", values["mode"], 8) if "mode" in values else None,
        uid=_number("uid", values["uid"], 10) if "uid" in values else None,
        gid=_number("gid", values["gid"], 10) if "gid" in values else None,
        size_bytes=_size(values["size"]) if "size" in values else 0,
    )


def _truth(key: str, value: str) -> bool:
    return parse_bool(value, key)


def _number(key: str, value: str, base: int) -> int:
    digits: Callable[[str], bool] = (
        (lambda text: text.isdigit()) if base == 10 else (lambda text: set(text) <= set("01234567"))
    )
    if not value.isascii() or not value or not digits(value) or int(value, base) >= 1 << 32:
        raise InvalidArgumentError(f"invalid value {value} for {key}")
    return int(value, base)


def _size(value: str) -> int:
    try:
        return parse_size(value)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"invalid value for size: {value}") from error
