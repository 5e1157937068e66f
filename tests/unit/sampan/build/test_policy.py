"""Which sources a policy lets through, and as what."""

import pytest

from sampan.build.policy import Action, Condition, Constraint, Match, Rule, Source, SourcePolicy
from sampan.errors import InvalidArgumentError, PermissionDeniedError

ALPINE = "docker-image://docker.io/library/alpine:3"
WILD = "docker-image://docker.io/library/alpine:*"
REGEX = "^docker-image://docker.io/(.+)/alpine.*$"


def taken(identifier: str, *rules: Rule) -> Source:
    return SourcePolicy(rules).apply(Source(identifier))


def test_without_rules_everything_is_allowed() -> None:
    assert taken(ALPINE) == Source(ALPINE)


def test_the_last_rule_that_matches_decides() -> None:
    deny, allow = Rule(Action.DENY, "docker-image://*"), Rule(Action.ALLOW, "docker-image://docker.io/library/*")
    assert taken(ALPINE, deny, allow) == Source(ALPINE)
    with pytest.raises(PermissionDeniedError, match="denied by policy"):
        taken(ALPINE, allow, deny)
    assert taken("local://context", deny) == Source("local://context")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(Action.CONVERT, ALPINE, Match.EXACT, new_identifier="docker-image://a:1"), "docker-image://a:1"),
        (Rule(Action.CONVERT, WILD, new_identifier="docker-image://mine:${1}"), "docker-image://mine:3"),
        (Rule(Action.CONVERT, REGEX, Match.REGEX, new_identifier="oci-layout://$1"), "oci-layout://library"),
    ],
)
def test_another_source_is_taken_instead(rule: Rule, expected: str) -> None:
    assert taken(ALPINE, rule) == Source(expected)


def test_what_a_source_is_converted_to_is_looked_at_as_well() -> None:
    rules = (Rule(Action.CONVERT, ALPINE, new_identifier="docker-image://b"), Rule(Action.DENY, "docker-image://b"))
    with pytest.raises(PermissionDeniedError):
        taken(ALPINE, *rules)
    circle = (
        Rule(Action.CONVERT, "a", Match.EXACT, new_identifier="b"),
        Rule(Action.CONVERT, "b", Match.EXACT, new_identifier="a"),
    )
    with pytest.raises(InvalidArgumentError, match="too many mutations"):
        taken("a", *circle)


@pytest.mark.parametrize(
    ("constraint", "denied"),
    [
        (Constraint("http.checksum", ""), True),
        (Constraint("http.checksum", "sha256:1"), False),
        (Constraint("http.checksum", "", Condition.NOT_EQUAL), False),
        (Constraint("http.checksum", "^sha256:", Condition.MATCHES), False),
    ],
)
def test_attributes_are_looked_at(constraint: Constraint, denied: bool) -> None:
    rule = Rule(Action.DENY, "https://*", constraints=(constraint,))
    if denied:
        with pytest.raises(PermissionDeniedError):
            taken("https://host/a", rule)
    else:
        assert taken("https://host/a", rule) == Source("https://host/a")


def test_a_checksum_is_pinned() -> None:
    rule = Rule(Action.CONVERT, "https://*", new_attributes={"http.checksum": "sha256:1"})
    assert taken("https://host/a", rule) == Source("https://host/a", {"http.checksum": "sha256:1"})


@pytest.mark.parametrize("rule", [Rule(Action.DENY, "a**"), Rule(Action.DENY, "(", Match.REGEX)])
def test_expressions_that_cannot_be_are_refused(rule: Rule) -> None:
    with pytest.raises(InvalidArgumentError):
        SourcePolicy((rule,))


def test_each_of_several_policies_has_to_allow_a_source() -> None:
    deny, allow = Rule(Action.DENY, "https://*"), Rule(Action.ALLOW, "https://*")
    assert SourcePolicy((deny, allow)).apply(Source("https://a")) == Source("https://a")
    for policy in (SourcePolicy((allow,), (deny,)), SourcePolicy((deny,)).and_then((allow,))):
        with pytest.raises(PermissionDeniedError):
            policy.apply(Source("https://a"))


def test_what_one_policy_puts_in_a_source_s_place_is_looked_at_by_all() -> None:
    converted = Rule(Action.CONVERT, "https://a", new_identifier="https://b")
    assert SourcePolicy().and_then((), (converted,)).apply(Source("https://a")) == Source("https://b")
    with pytest.raises(PermissionDeniedError, match="https://b"):
        SourcePolicy((Rule(Action.DENY, "https://b"),)).and_then((converted,)).apply(Source("https://a"))
