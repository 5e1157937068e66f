"""Parse a template: ``{{.A.B}}``, pipelines, functions, if, with, range, variables.

Not here, and refused by name: define, template, block, break, continue.

Reference: Go's text/template, whose words and results this follows.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

from sampan_cli.template.functions import FUNCTIONS
from sampan_cli.template.tokens import Action, TemplateError, Text, tokenize


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


_BRANCHES: Final = ("if", "with", "range")
_REFUSED: Final = ("define", "template", "block", "break", "continue")
_CONSTANTS: Final = {"true": True, "false": False, "nil": None}
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?")


def parse(template: str) -> tuple[Node, ...]:
    """Return the nodes of ``template``.

    Raises:
        TemplateError: what Go would refuse, or one of the few things that are not supported.
    """
    parts = tokenize(template)
    nodes, end = _block(parts, 0, inside=False)
    assert end == len(parts)
    return nodes


def _block(parts: list[Text | Action], at: int, *, inside: bool) -> tuple[tuple[Node, ...], int]:
    """Parse up to an ``end`` or ``else`` that belongs to whoever called, or to the end."""
    nodes: list[Node] = []
    while at < len(parts):
        part = parts[at]
        if isinstance(part, Text):
            nodes.append(part.text)
            at += 1
            continue
        keyword = part.words[0] if part.words else ""
        if keyword in ("end", "else"):
            if not inside:
                raise TemplateError(f"template parsing error: unexpected {{{{{keyword}}}}}")
            return tuple(nodes), at
        if keyword in _BRANCHES:
            branch, at = _branch(parts, at, part.words)
            nodes.append(branch)
        elif keyword in _REFUSED:
            raise TemplateError(f"template parsing error: {{{{{keyword}}}}} is not supported")
        else:
            nodes.append(_pipeline(part.words))
            at += 1
    if inside:
        raise TemplateError("template parsing error: unexpected EOF: {{end}} is missing")
    return tuple(nodes), at


def _branch(parts: list[Text | Action], at: int, words: tuple[str, ...]) -> tuple[Branch, int]:
    keyword, pipeline = words[0], _pipeline(words[1:])
    body, at = _block(parts, at + 1, inside=True)
    otherwise: tuple[Node, ...] = ()
    closing = parts[at]
    assert isinstance(closing, Action)
    if closing.words[0] == "end":
        return Branch(keyword, pipeline, body, ()), at + 1
    if len(closing.words) > 1:  # `else if`: its `end` ends both
        nested, at = _branch(parts, at, closing.words[1:])
        return Branch(keyword, pipeline, body, (nested,)), at
    otherwise, at = _block(parts, at + 1, inside=True)
    return Branch(keyword, pipeline, body, otherwise), at + 1


def _pipeline(words: tuple[str, ...]) -> Pipeline:
    if not words:
        raise TemplateError("template parsing error: missing value for command")
    names: tuple[str, ...] = ()
    for sign in (":=", "="):
        if sign in words:
            at = words.index(sign)
            names = tuple(word for word in words[:at] if word != ",")
            if not names or not all(name.startswith("$") for name in names):
                raise TemplateError(f"template parsing error: cannot assign to {' '.join(words[:at])}")
            words = words[at + 1 :]
    commands, at = [], 0
    while True:
        command, at = _command(words, at)
        commands.append(command)
        if at == len(words):
            return Pipeline(tuple(commands), names)
        if words[at] != "|":
            raise TemplateError(f"template parsing error: unexpected {words[at]!r}")
        at += 1


def _command(words: tuple[str, ...], at: int) -> tuple[Operand, int]:
    operands: list[Operand] = []
    function = ""
    if at < len(words) and _is_function(words[at]):
        function, at = words[at], at + 1
    while at < len(words) and words[at] not in ("|", ")"):
        operand, at = _operand(words, at)
        operands.append(operand)
    if function:
        return Call(function, tuple(operands)), at
    if not operands:
        raise TemplateError("template parsing error: missing value for command")
    first, *arguments = operands
    if arguments and isinstance(first, Path):
        return Method(first, tuple(arguments)), at
    if arguments:
        raise TemplateError(f"template parsing error: {words[0]!r} takes no arguments")
    return first, at


def _is_function(word: str) -> bool:
    if not word[0].isalpha() or word in _CONSTANTS:
        return False
    if word not in FUNCTIONS:
        raise TemplateError(f"template parsing error: function {word!r} not defined")
    return True


def _operand(words: tuple[str, ...], at: int) -> tuple[Operand, int]:
    word = words[at]
    if word == "(":
        return _parenthesis(words, at)
    if word in _CONSTANTS:
        return Literal(_CONSTANTS[word]), at + 1
    if word[0] == '"':
        return Literal(str(json.loads(word))), at + 1
    if word[0] == "`":
        return Literal(word[1:-1]), at + 1
    if _NUMBER.fullmatch(word):
        return Literal(float(word) if "." in word else int(word)), at + 1
    if word[0] in ".$":
        start, *fields = word.split(".")
        return Path(start, tuple(field for field in fields if field)), at + 1
    if _is_function(word):
        return Call(word, ()), at + 1
    raise TemplateError(f"template parsing error: unexpected {word!r}")


def _parenthesis(words: tuple[str, ...], at: int) -> tuple[Operand, int]:
    depth, end = 1, at + 1
    while end < len(words) and depth:
        depth += {"(": 1, ")": -1}.get(words[end], 0)
        end += 1
    if depth:
        raise TemplateError("template parsing error: unclosed left paren")
    inner = _pipeline(words[at + 1 : end - 1])
    if end < len(words) and len(words[end]) > 1 and words[end][0] == ".":
        return Path(inner, tuple(words[end][1:].split("."))), end + 1
    return inner, end
