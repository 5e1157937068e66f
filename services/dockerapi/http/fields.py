"""Typed looks into JSON that a client sent. Null is the same as absent, as it is for Go."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dockerapi.http.decode import shown
from sampan.errors import InvalidArgumentError

# What Go's types hold. The services' own are never narrower than what a field is read with.
INT64: Final = range(-(2**63), 2**63)
INT32: Final = range(-(2**31), 2**31)
UINT32: Final = range(2**32)
UINT16: Final = range(2**16)


class Fields:
    """A JSON object. Every method raises InvalidArgumentError, naming the field, for a value of the wrong type.

    A key is found in any case, like in Go, with the exact one first: PHP and Ruby clients depend on it.
    """

    def __init__(self, value: Mapping[str, object], where: str) -> None:
        self._value = value
        self._where = where
        self._folded: dict[str, Any] | None = None

    def get(self, name: str) -> Any:
        """Return the value as it is, None if absent."""
        if name in self._value:
            return self._value[name]
        if self._folded is None:
            self._folded = {key.lower(): value for key, value in self._value.items()}
        return self._folded.get(name.lower())

    def text(self, name: str) -> str:
        """Return a string, empty if absent."""
        value = self.get(name)
        return "" if value is None else self._check(name, value, str, "a string")

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a boolean, ``default`` if absent."""
        value = self.get(name)
        return default if value is None else self._check(name, value, bool, "true or false")

    def optional_flag(self, name: str) -> bool | None:
        """Return a boolean, None if absent."""
        return None if self.get(name) is None else self.flag(name)

    def number(self, name: str, within: range = INT64) -> int:
        """Return a whole number, 0 if absent."""
        value = self.get(name)
        if value is None:
            return 0
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value not in within:
            raise self._wrong(name, f"a whole number{_bounds(within)}")
        return value

    def optional_number(self, name: str, within: range = INT64) -> int | None:
        """Return a whole number, None if absent."""
        return None if self.get(name) is None else self.number(name, within)

    def texts(self, name: str) -> list[str]:
        """Return a list of strings; a single string counts as a list of one, which Docker's shell form is."""
        value = self.get(name)
        if isinstance(value, str):
            return [value]
        items = self._list(name)
        if not all(isinstance(item, str) for item in items):
            raise self._wrong(name, "a list of strings")
        return items

    def plain(self, name: str, like: object) -> Any:
        """Return a value of the kind of ``like``, a value that says nothing: a bool, int, str or tuple of str."""
        if isinstance(like, bool):
            return self.flag(name)
        if isinstance(like, int):
            return self.number(name)
        return self.text(name) if isinstance(like, str) else tuple(self.texts(name))

    def numbers(self, name: str, within: range = UINT32) -> list[int]:
        """Return a list of whole numbers."""
        items = self._list(name)
        if not all(isinstance(item, int) and not isinstance(item, bool) and item in within for item in items):
            raise self._wrong(name, f"a list of whole numbers{_bounds(within)}")
        return items

    def mapping(self, name: str) -> dict[str, str]:
        """Return an object of strings."""
        value = self._object(name)
        if not all(isinstance(item, str) for item in value.values()):
            raise self._wrong(name, "an object of strings")
        return value

    def keys(self, name: str) -> list[str]:
        """Return the keys of an object whose values say nothing: Go's set."""
        return list(self._object(name))

    def fields(self, name: str) -> "Fields":
        """Return an object; an empty one if absent."""
        return Fields(self._object(name), f"{self._where}{name}.")

    def has(self, name: str) -> bool:
        """Whether the value is there and not null."""
        return self.get(name) is not None

    def items(self, name: str) -> Iterator["Fields"]:
        """Yield the members of a list of objects."""
        for index, item in enumerate(self._list(name)):
            if not isinstance(item, dict):
                raise self._wrong(name, "a list of objects")
            yield Fields(item, f"{self._where}{name}[{index}].")

    def members(self, name: str) -> Iterator[tuple[str, "Fields"]]:
        """Yield the members of an object of objects; a null member is an empty object."""
        for key, item in self._object(name).items():
            if item is not None and not isinstance(item, dict):
                raise self._wrong(name, "an object of objects")
            yield key, Fields(item or {}, f"{self._where}{name}.{key}.")

    def lists(self, name: str) -> Iterator[tuple[str, list["Fields"]]]:
        """Yield the members of an object of lists of objects; null is an empty list."""
        for key, item in self._object(name).items():
            rows = item or []
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise self._wrong(name, "an object of lists of objects")
            yield key, [Fields(row, f"{self._where}{name}.{key}.") for row in rows]

    def _list(self, name: str) -> list[Any]:
        value = self.get(name)
        return [] if value is None else list(self._check(name, value, list, "a list"))

    def _object(self, name: str) -> dict[str, Any]:
        value = self.get(name)
        return {} if value is None else dict(self._check(name, value, dict, "an object"))

    def _check(self, name: str, value: object, kind: type, expected: str) -> Any:
        if not isinstance(value, kind):
            raise self._wrong(name, expected)
        return value

    def _wrong(self, name: str, expected: str) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"invalid JSON: {self._where}{name} is {shown(self.get(name))}, expected {expected}"
        )


def _bounds(within: range) -> str:
    return f" from {within.start} to {within.stop - 1}"
