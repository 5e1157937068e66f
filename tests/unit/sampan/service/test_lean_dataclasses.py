import copy
import dataclasses
import inspect
import operator
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from sampan.service.lean_dataclasses import lean_dataclass, lean_dataclasses

T = TypeVar("T")
Define = Callable[..., Any]


def _define(dataclass: Define) -> dict[str, Any]:
    """Classes of all the shapes that there are, and how an instance of each is made."""

    @dataclass(frozen=True, slots=True)
    class Plain:
        """With defaults, and a field of each kind."""

        KIND: ClassVar[str] = "plain"
        name: str
        size: float = 0.0
        secret: str = field(default="", repr=False)
        names: tuple[str, ...] = field(default_factory=tuple)
        note: str = field(default="", compare=False)
        labels: dict[str, str] = field(default_factory=dict, hash=False)

    @dataclass(frozen=True, slots=True)
    class Child(Plain):
        more: int = 1

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Named(Generic[T]):
        value: T

    @dataclass(frozen=True, slots=True)
    class Nothing:
        pass

    @dataclass(frozen=True, slots=True)
    class Own:
        a: int

        def __post_init__(self) -> None:
            object.__setattr__(self, "a", abs(self.a))

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Own) and other.a % 10 == self.a % 10

        def __hash__(self) -> int:
            return self.a % 10

        def __repr__(self) -> str:
            return f"<{self.a}>"

    @dataclass(frozen=True, slots=True)
    class Compared:
        a: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Compared)

    @dataclass(frozen=True)
    class Open:
        a: list[object]

    @dataclass(frozen=True, slots=True, order=True)
    class Ordered:
        a: int

    @dataclass(frozen=True, slots=True, eq=False)
    class Identical:
        a: int

    @dataclass(slots=True)
    class Changing:
        a: int = 1

    @dataclass
    class Bare:
        a: int = 1

    return {kind.__name__: kind for kind in list(locals().values()) if isinstance(kind, type)}


STANDARD = _define(dataclasses.dataclass)
with lean_dataclasses():
    LEAN = _define(dataclasses.dataclass)

VALUES: dict[str, list[dict[str, Any]]] = {
    "Plain": [
        {"name": "a"}, {"name": "a", "note": "other"}, {"name": "a", "secret": "s"}, {"name": "b", "names": ("x",)},
        {"name": "a", "labels": {"k": "v"}},
    ],
    "Child": [{"name": "a"}, {"name": "a", "more": 2}],
    "Named": [{"value": 1}, {"value": float("nan")}, {"value": 1.0}],
    "Nothing": [{}],
    "Own": [{"a": -1}, {"a": 11}, {"a": 2}],
    "Compared": [{"a": 1}, {"a": 2}],
    "Open": [{"a": []}, {"a": [1]}],
    "Ordered": [{"a": 1}, {"a": 2}],
    "Identical": [{"a": 1}, {"a": 1}],
    "Changing": [{}, {"a": 2}],
    "Bare": [{}, {"a": 2}],
}  # fmt: skip


def _outcome(call: Callable[..., object], *arguments: object) -> object:
    try:
        return call(*arguments)
    except (TypeError, AttributeError) as error:
        return type(error), str(error)


@pytest.mark.parametrize("name", STANDARD)
def test_a_lean_class_is_as_one_of_the_standard_library(name: str) -> None:
    lean, standard = LEAN[name], STANDARD[name]
    assert [each.name for each in dataclasses.fields(lean)] == [each.name for each in dataclasses.fields(standard)]
    assert inspect.signature(lean) == inspect.signature(standard)
    assert (lean.__doc__, lean.__match_args__) == (standard.__doc__, standard.__match_args__)
    assert getattr(lean, "__slots__", None) == getattr(standard, "__slots__", None)
    ours, theirs = ([kind(**values) for values in VALUES[name]] for kind in (lean, standard))
    for a, b in zip(ours, theirs, strict=True):
        if name != "Identical":  # is hashed by where it is
            assert _outcome(hash, a) == _outcome(hash, b)
        assert repr(a) == repr(b)
        assert a != b
        assert copy.copy(a) is not a
        for change in ((setattr, "a", 3), (setattr, "other", 3), (delattr, "name")):
            attempt, *arguments = change
            assert _kind(_outcome(attempt, a, *arguments)) == _kind(_outcome(attempt, b, *arguments))
        assert [a == other for other in ours] == [b == other for other in theirs]
        assert [_outcome(operator.lt, a, each) for each in ours] == [_outcome(operator.lt, b, each) for each in theirs]


def _kind(outcome: object) -> object:
    return outcome[0] if isinstance(outcome, tuple) and outcome[0] is TypeError else outcome


def test_a_value_that_holds_itself_can_be_shown() -> None:
    for kinds in (LEAN, STANDARD):
        held: list[object] = []
        held.append(kinds["Open"](held))
        assert repr(held[0]).endswith("Open(a=[...])")


with lean_dataclasses():

    @dataclasses.dataclass(frozen=True, slots=True)
    class Sent:
        a: int
        b: str = ""


def test_lean_values_are_frozen_sent_replaced_and_matched() -> None:
    sent = Sent(1, "x")
    assert pickle.loads(pickle.dumps(sent)) == sent
    assert copy.deepcopy(sent) == sent
    assert dataclasses.replace(sent, b="y") == Sent(1, "y")
    assert dataclasses.asdict(sent) == {"a": 1, "b": "x"}
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'a'"):
        sent.a = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'a'"):
        del sent.a
    match sent:
        case Sent(1, text):
            assert text == "x"
        case _:
            pytest.fail("it does not match")


def test_lean_and_standard_classes_derive_from_each_other() -> None:
    """What is imported late derives from what was imported early."""
    with lean_dataclasses():

        @dataclasses.dataclass(frozen=True, slots=True)
        class Lean:
            a: int

    @dataclasses.dataclass(frozen=True, slots=True)
    class Child(Lean):
        b: int

    assert Child(1, 2) == Child(1, 2) != Child(1, 3)
    with pytest.raises(FrozenInstanceError):
        Child(1, 2).b = 3  # type: ignore[misc]
    with lean_dataclasses():

        @dataclasses.dataclass(frozen=True, slots=True)
        class Grandchild(Child):
            c: int = 0

    assert repr(Grandchild(1, 2)).endswith("Grandchild(a=1, b=2, c=0)")


def test_outside_of_it_dataclasses_is_as_it_was() -> None:
    names = dict(vars(dataclasses))
    with lean_dataclasses():
        assert dataclasses.dataclass is lean_dataclass
    assert dict(vars(dataclasses)) == names


def test_a_service_compiles_none_but_initializers() -> None:
    script = """
import sys
from sampan.service.lean import lean_imports
with lean_imports():
    from sampan.resource.container import Container
names = {name: getattr(Container, name).__code__.co_filename for name in ("__eq__", "__hash__", "__setattr__")}
sys.exit([name for name, path in names.items() if not path.endswith("lean_dataclasses.py")] or None)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
