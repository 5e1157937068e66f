"""The template as a tree: what Go's text/template calls nodes, as far as ``--format`` needs them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, a number, true, false or nil."""

    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Path:
    """``.A.B``, ``$name.A``, or ``(…).A``: fields of a starting point."""

    start: "str | Pipeline"  # "" is the dot, "$" the whole, "$name" a variable
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A function and its arguments."""

    function: str
    arguments: "tuple[Operand, ...]"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """``a | b | c``: the result of each is the last argument of the next. Declares variables if any are named."""

    commands: "tuple[Operand, ...]"
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Method:
    """A field that takes arguments: ``.Label "name"``."""

    path: Path
    arguments: "tuple[Operand, ...]"


Operand = Literal | Path | Call | Method | Pipeline


@dataclass(frozen=True, slots=True)
class Branch:
    """``if``, ``with`` or ``range``."""

    keyword: str
    pipeline: Pipeline
    body: "tuple[Node, ...]"
    otherwise: "tuple[Node, ...]"


Node = str | Pipeline | Branch
