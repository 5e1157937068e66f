"""Which sources a build may use, and what is taken instead of them.

Of the rules of a policy that a source matches, the last one that allows or denies decides; one that converts it puts
another source in its place, which is looked at anew.

Reference: moby/buildkit, docs/build-repro.md, "Source policy"; sourcepolicy/pb/policy.proto.
"""

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sampan.errors import InvalidArgumentError, PermissionDeniedError
from sampan.pattern import Pattern

_MAX_CHANGES: Final = 20  # of one source
_MAX_RULES: Final = 10_000
_GROUP: Final = re.compile(r"\$(?:\{(\w+)\}|(\w+)|(\$))")


class Action(enum.Enum):
    """What becomes of a source."""

    ALLOW = 0
    DENY = 1
    CONVERT = 2


class Match(enum.Enum):
    """How a rule's identifier is read."""

    WILDCARD = 0  # "*" stands for anything
    EXACT = 1
    REGEX = 2


class Condition(enum.Enum):
    """How an attribute is compared."""

    EQUAL = 0
    NOT_EQUAL = 1
    MATCHES = 2


@dataclass(frozen=True, slots=True)
class Constraint:
    """What an attribute has to be."""

    name: str
    value: str
    condition: Condition = Condition.EQUAL


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule."""

    action: Action
    identifier: str
    match: Match = Match.WILDCARD
    constraints: tuple[Constraint, ...] = ()
    new_identifier: str = ""  # of a conversion; "${1}" is what the first "*" or group stands for
    new_attributes: Mapping[str, str] = field(default_factory=dict)


Policies = Sequence[Sequence[Rule]]


@dataclass(frozen=True, slots=True)
class Source:
    """A source as a graph names it."""

    identifier: str
    attributes: Mapping[str, str] = field(default_factory=dict)


_Compiled = tuple[Rule, Callable[[str], Sequence[str] | None], Sequence[Callable[[Mapping[str, str]], bool]]]


class SourcePolicy:
    """Policies that all have to allow a source: those of one build, and of what is asked within it."""

    def __init__(self, *policies: Sequence[Rule]) -> None:
        """Compile the rules of each policy.

        Raises:
            InvalidArgumentError: too many, or an expression that cannot be.
        """
        count = sum(map(len, policies))
        if count > _MAX_RULES:
            raise InvalidArgumentError(f"a source policy has {count} rules: the most is {_MAX_RULES}")
        self._policies = [tuple(map(_compiled, rules)) for rules in policies if rules]

    def and_then(self, *policies: Sequence[Rule]) -> "SourcePolicy":
        """Return these policies, and more that come after them. Raises InvalidArgumentError."""
        added = SourcePolicy(*policies)
        added._policies = [*self._policies, *added._policies]
        return added

    def apply(self, source: Source) -> Source:
        """Return what is taken for a source.

        Raises:
            PermissionDeniedError: nothing is.
            InvalidArgumentError: its conversions come to no end.
        """
        if not self._policies:
            return source
        for _ in range(_MAX_CHANGES + 1):
            changed = next((each for rules in self._policies if (each := _once(rules, source)) != source), source)
            if changed == source:
                return source
            source = changed
        raise InvalidArgumentError("too many mutations on a single source: too many operations")


def _compiled(rule: Rule) -> _Compiled:
    return rule, _matcher(rule), [_tester(each) for each in rule.constraints]


def _once(rules: Sequence[_Compiled], source: Source) -> Source:
    """Return what one policy makes of a source. PermissionDeniedError."""
    denied = False
    for rule, match, tests in rules:
        found = match(source.identifier)
        if found is None or not all(test(source.attributes) for test in tests):
            continue
        if rule.action is Action.CONVERT:
            changed = _converted(rule, source, found)
            if changed != source:
                return changed
        else:
            denied = rule.action is Action.DENY
    if denied:
        raise PermissionDeniedError(f'source "{source.identifier}" denied by policy: source denied by policy')
    return source


def _converted(rule: Rule, source: Source, groups: Sequence[str]) -> Source:
    wanted = rule.new_identifier
    if rule.match is not Match.EXACT:
        wanted = _GROUP.sub(lambda name: _group(name, groups), wanted)
    attributes = {**source.attributes, **rule.new_attributes}
    return Source(wanted or source.identifier, attributes)


def _group(name: re.Match[str], groups: Sequence[str]) -> str:
    if name[3]:
        return "$"
    number = name[1] or name[2]
    return groups[int(number)] if number.isdigit() and int(number) < len(groups) else ""


def _matcher(rule: Rule) -> Callable[[str], Sequence[str] | None]:
    """Return what gives the groups of a match, the whole of it first; None: no match."""
    if rule.match is Match.EXACT:
        return lambda text: (text,) if text == rule.identifier else None
    if rule.match is Match.WILDCARD and "**" in rule.identifier:
        raise InvalidArgumentError(
            f'failed to translate wildcard "{rule.identifier}" to regexp: invalid wildcard: "**"'
        )
    expression = rule.identifier
    if rule.match is Match.WILDCARD:
        expression = "^" + "(.*)".join(map(re.escape, rule.identifier.split("*"))) + "$"
    pattern = Pattern(expression)
    return lambda text: (text,) if text == rule.identifier else pattern.groups(text)


def _tester(constraint: Constraint) -> Callable[[Mapping[str, str]], bool]:
    name, value = constraint.name, constraint.value
    match constraint.condition:
        case Condition.EQUAL:
            return lambda attributes: attributes.get(name, "") == value
        case Condition.NOT_EQUAL:
            return lambda attributes: attributes.get(name, "") != value
    pattern = Pattern(value)
    return lambda attributes: pattern.found_in(attributes.get(name, ""))
