"""Dataclasses that compile less when they are defined: half of what importing a service takes is spent on that.

For a frozen class ``dataclasses`` writes six methods as text and compiles each, half a millisecond a class, and a
service has some two hundred of them. But for ``__init__`` they are the same for all classes except for the fields'
names, and need not be compiled. They are here, and do what the compiled ones do.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from reprlib import recursive_repr
from typing import Final

_standard: Final = dataclasses.dataclass

# Makes the two methods that keep a frozen instance from being changed; there is no public way to give them.
_REFUSALS: Final = "_frozen_get_del_attr"

_Values = Callable[[object], tuple[object, ...]]


@contextlib.contextmanager
def lean_dataclasses() -> Iterator[None]:
    """Have modules that are imported inside of this define their dataclasses in the lean way."""
    names = vars(dataclasses)
    lean: dict[str, object] = {"dataclass": lean_dataclass}
    if _REFUSALS in names and sys.version_info < (3, 13):  # otherwise it takes longer, and is the same
        lean[_REFUSALS] = _refusals
    before = {name: names[name] for name in lean}
    names.update(lean)
    try:
        yield
    finally:
        names.update(before)


def lean_dataclass(cls: type | None = None, /, **options: bool) -> type | Callable[[type], type]:
    """Be ``dataclasses.dataclass``, with the same options and the same outcome."""

    def define(cls: type) -> type:
        return _define(cls, options)

    return define if cls is None else define(cls)


def _define(cls: type, options: dict[str, bool]) -> type:
    if not (options.get("frozen") and options.get("eq", True) and options.get("repr", True)):
        return _standard(**options)(cls)
    if options.get("order") or options.get("unsafe_hash"):
        return _standard(**options)(cls)
    own = dict(vars(cls))  # what a class defines itself stays
    made: type = _standard(**{**options, "eq": False, "repr": False})(cls)
    fields = dataclasses.fields(made)
    if "__eq__" not in own:
        _set(made, "__eq__", _equality(_values([each.name for each in fields if each.compare])))
    # Python sets it to None where a class has ``__eq__`` alone.
    if own.get("__hash__") is None:
        hashed = [each.name for each in fields if (each.compare if each.hash is None else each.hash)]
        _set(made, "__hash__", _hashing(_values(hashed)))
    if "__repr__" not in own:
        _set(made, "__repr__", _showing([each.name for each in fields if each.repr]))
    return made


def _refusals(
    cls: type,
    fields: Sequence[dataclasses.Field[object]],
    globals: object,  # noqa: ARG001  # of the module, for who compiles
) -> tuple[Callable[..., None], ...]:
    names = frozenset(each.name for each in fields)

    def __setattr__(self: object, name: str, value: object) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")
        super(cls, self).__setattr__(name, value)  # type: ignore[arg-type]

    def __delattr__(self: object, name: str) -> None:  # noqa: N807
        if type(self) is cls or name in names:
            raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")
        super(cls, self).__delattr__(name)  # type: ignore[arg-type]

    return __setattr__, __delattr__


def _set(cls: type, name: str, method: Callable[..., object]) -> None:
    method.__qualname__ = f"{cls.__qualname__}.{name}"
    setattr(cls, name, method)


def _values(names: Sequence[str]) -> _Values:
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda _: ()
    get = attrgetter(names[0])
    return lambda instance: (get(instance),)


def _equality(values: _Values) -> Callable[[object, object], object]:
    def __eq__(self: object, other: object) -> object:  # noqa: N807
        if other.__class__ is self.__class__:
            return values(self) == values(other)
        return NotImplemented

    return __eq__


def _hashing(values: _Values) -> Callable[[object], int]:
    def __hash__(self: object) -> int:  # noqa: N807
        return hash(values(self))

    return __hash__


def _showing(names: Sequence[str]) -> Callable[[object], str]:
    @recursive_repr()
    def __repr__(self: object) -> str:  # noqa: N807
        shown = ", ".join([f"{name}={getattr(self, name)!r}" for name in names])
        return f"{self.__class__.__qualname__}({shown})"

    return __repr__
