"""Frozen dataclasses as JSON text and back, for the columns of the store.

Fields at their default are left out, so that a field added later reads as its default in old records; unknown keys
are ignored, so that a record survives a field that was dropped.
"""

import dataclasses
import enum
import functools
import json
import types
import typing
from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

T = TypeVar("T")
# What JSON is made of. The values have no common type that helps a reader.
Json = object


def to_json(value: object) -> str:
    """Return ``value`` as one line of JSON."""
    return json.dumps(_encode(value), separators=(",", ":"))


def from_json(kind: type[T], text: str) -> T:
    """Return the ``kind`` that ``to_json`` wrote; a list of them is read with ``tuple[kind, ...]``."""
    result: T = _decode(kind, json.loads(text))
    return result


def _encode(value: object) -> Json:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            name: _encode(field)
            for name, default in _defaults(type(value)).items()
            if (field := getattr(value, name)) != default
        }
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return b64encode(value).decode()
    if isinstance(value, (tuple, list)):
        return [_encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _encode(item) for key, item in value.items()}
    return value


@functools.cache
def _defaults(kind: type) -> dict[str, object]:
    return {
        f.name: f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        for f in dataclasses.fields(kind)
    }


@functools.cache
def _hints(kind: type) -> dict[str, typing.Any]:
    return typing.get_type_hints(kind)


def _decode(hint: typing.Any, value: typing.Any) -> typing.Any:
    origin = typing.get_origin(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _decode(typing.get_args(hint)[0], value)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        return tuple(_decode(item, one) for one in value)
    if origin is not None and issubclass(origin, Mapping):
        item = typing.get_args(hint)[1]
        return {key: _decode(item, one) for key, one in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = _hints(hint)
        return hint(**{key: _decode(hints[key], one) for key, one in value.items() if key in hints})
    if hint is datetime:
        return datetime.fromisoformat(value)
    if hint is bytes:
        return b64decode(value)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    return value
