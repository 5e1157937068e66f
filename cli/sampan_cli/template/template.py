"""Apply a template to a value."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from sampan_cli.template.functions import ABSENT_MAP, FUNCTIONS, NIL_MAP, GoMap, Nil, show
from sampan_cli.template.parser import Branch, Call, Literal, Method, Node, Operand, Path, Pipeline, parse
from sampan_cli.template.tokens import TemplateError


class Template:
    """A parsed template. Mappings are Go's structs, unless they are a ``GoMap``."""

    def __init__(self, text: str) -> None:
        """Parse. Raises TemplateError."""
        self._nodes = parse(text)

    def render(self, value: object) -> str:
        """Return the text for ``value``.

        Raises:
            TemplateError: it asks for a field that is not there, or a function does not take its arguments.
        """
        return "".join(_run(self._nodes, _Scope(value, {"$": value})))


@dataclass(slots=True)
class _Scope:
    dot: object
    variables: dict[str, object] = field(default_factory=dict)

    def inside(self, dot: object, **variables: object) -> "_Scope":
        return _Scope(dot, {**self.variables, **variables})


def _run(nodes: tuple[Node, ...], scope: _Scope) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
        elif isinstance(node, Branch):
            yield from _branch(node, scope)
        else:
            value = _pipeline(node, scope)
            if node.names:
                scope.variables[node.names[0]] = value
            else:
                yield show(value)


def _branch(node: Branch, scope: _Scope) -> Iterator[str]:
    value = _pipeline(node.pipeline, scope)
    names = node.pipeline.names
    if not value:
        yield from _run(node.otherwise, scope)
    elif node.keyword == "range":
        if not isinstance(value, (Mapping, list, tuple)):
            raise TemplateError(f"template: range can't iterate over {show(value)}")
        pairs = sorted(value.items()) if isinstance(value, Mapping) else enumerate(value)
        for key, item in pairs:
            given = dict(zip(names, (item,) if len(names) == 1 else (key, item), strict=False))
            yield from _run(node.body, scope.inside(item, **given))
    else:
        given = dict.fromkeys(names, value)
        dot = value if node.keyword == "with" else scope.dot
        yield from _run(node.body, scope.inside(dot, **given))


def _pipeline(pipeline: Pipeline, scope: _Scope) -> object:
    first, *rest = pipeline.commands
    value = _operand(first, scope)
    for command in rest:
        if not isinstance(command, Call):
            raise TemplateError("template: can't give an argument to something that is not a function")
        value = _call(command, scope, value)
    return value


def _operand(operand: Operand, scope: _Scope) -> object:
    match operand:
        case Literal(value):
            return value
        case Pipeline():
            return _pipeline(operand, scope)
        case Call():
            return _call(operand, scope)
        case Method(path, arguments):
            method = _operand(path, scope)
            if not callable(method):
                raise TemplateError(f"template: {'.'.join(('', *path.fields))} takes no arguments")
            return method(*(_operand(argument, scope) for argument in arguments))
        case Path(start, fields):
            found = _pipeline(start, scope) if isinstance(start, Pipeline) else _start(start, scope)
            for name in fields:
                found = _field(found, name)
            return found


def _start(start: str, scope: _Scope) -> object:
    if not start:
        return scope.dot
    if start not in scope.variables:
        raise TemplateError(f"template: undefined variable {start!r}")
    return scope.variables[start]


def _field(value: object, name: str) -> object:
    if isinstance(value, GoMap):
        return value.get(name)
    if value in (NIL_MAP, ABSENT_MAP):
        return None
    if isinstance(value, Mapping):
        if name not in value:
            raise TemplateError(f"template: map has no entry for key {name!r}; there are {', '.join(sorted(value))}")
        return value[name]
    if value is None or isinstance(value, Nil):
        raise TemplateError(f"template: nil pointer evaluating {name!r}")
    raise TemplateError(f"template: can't evaluate field {name} in {show(value)}")


def _call(call: Call, scope: _Scope, *piped: object) -> object:
    arguments = [_operand(argument, scope) for argument in call.arguments]
    try:
        return FUNCTIONS[call.function](*arguments, *piped)
    except (TypeError, AttributeError, ValueError, IndexError) as error:
        raise TemplateError(f"template: error calling {call.function}: {error}") from error
