import asyncio
from collections.abc import Sequence

import pytest

from buildd.build.judging import PolicyDeniedError, SourceJudge
from buildd.build.protocol import GatewayRequest, LocatedError, SourceQuery, SourceState
from buildd.llb.ops import Node, SourceOp
from buildd.protocol import ImageQuery, Pinned
from buildd.session.protocol import PolicyDecision
from buildd.source_metadata import GitObjects
from buildd.wire.llb.graphs import Graphs
from sampan.build.policy import Action, Rule, SourcePolicy
from sampan.errors import InvalidArgumentError, PermissionDeniedError, SampanError, UnimplementedError
from sampan.oci.platform import Platform
from tests.unit.buildd.build.building import BASE, Building

HOST = Platform("linux", "amd64")
IMAGE = SourceOp("docker-image://busybox:1")
OTHER = SourceOp("docker-image://busybox:2")

Answer = PolicyDecision | SourceQuery


class Client:
    """A client that gives these answers in turn, the last one ever after."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[SourceState, Platform | None]] = []

    async def check_policy(self, state: SourceState, platform: Platform | None) -> Answer:
        self.asked.append((state, platform))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    async def __call__(self) -> "Client":
        return self


ALLOW = PolicyDecision(Action.ALLOW)
DENY = PolicyDecision(Action.DENY, ("it is old", "it is large"))


async def look(query: SourceQuery) -> SourceState:
    return SourceState(query.op, Pinned("", f"pin of {query.op.identifier}"))


def judge(client: Client, rules: Sequence[Rule] = ()) -> SourceJudge:
    return SourceJudge(SourcePolicy(rules), client, look)


async def test_a_source_that_is_allowed_is_itself_and_asked_for_once() -> None:
    client = Client(ALLOW)
    made = judge(client)
    for _ in range(2):
        assert await made.allowed(IMAGE, HOST) is IMAGE
    assert client.asked == [(SourceState(IMAGE), HOST)]
    await made.allowed(IMAGE, None)
    assert len(client.asked) == 2


async def test_a_source_that_is_denied_says_why() -> None:
    words = 'source "docker-image://busybox:1" not allowed by policy: action DENY'
    with pytest.raises(PolicyDeniedError, match=words) as error:
        await judge(Client(DENY)).allowed(IMAGE, HOST)
    assert error.value.messages == ("it is old", "it is large")


async def test_a_client_that_wants_to_know_more_is_told_and_asked_again() -> None:
    client = Client(SourceQuery(IMAGE, HOST), ALLOW)
    assert await judge(client).allowed(IMAGE, HOST) is IMAGE
    assert [state.pinned for state, _ in client.asked] == [None, Pinned("", "pin of docker-image://busybox:1")]


async def test_what_is_taken_instead_is_asked_for_too_by_rules_first() -> None:
    deny = Rule(Action.DENY, "docker-image://busybox:2")
    with pytest.raises(PermissionDeniedError, match="denied by policy"):
        await judge(Client(PolicyDecision(Action.CONVERT, update=OTHER)), [deny]).allowed(IMAGE, HOST)
    client = Client(PolicyDecision(Action.CONVERT, update=OTHER))  # and says the same of that one
    assert await judge(client).allowed(IMAGE, HOST) == OTHER
    assert [state.op for state, _ in client.asked] == [IMAGE, OTHER]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (SourceQuery(IMAGE, HOST), "too many policy requests"),
        (SourceQuery(OTHER, HOST), "policy requested different source identifier"),
        (SourceQuery(SourceOp(IMAGE.identifier, {"a": "b"}), HOST), "policy requested different source attrs"),
        (PolicyDecision(Action.CONVERT), "convert action requires updated source"),
    ],
)
async def test_answers_that_cannot_be_are_refused(answer: Answer, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        await judge(Client(answer)).allowed(IMAGE, HOST)


class Fastidious:
    """A client that allows no image, once it has seen what it is."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    async def check_policy(self, state: SourceState, platform: Platform | None) -> Answer:
        self.asked.add(state.op.identifier)
        if not state.op.identifier.startswith("docker-image://"):
            return ALLOW
        return SourceQuery(state.op, platform or HOST) if state.image is None else DENY


class Suspicious:
    """A client that allows what it has seen the signed objects of."""

    def __init__(self) -> None:
        self.seen: list[GitObjects] = []

    async def check_policy(self, state: SourceState, platform: Platform | None) -> Answer:
        if state.op.identifier.startswith("git://"):
            if state.objects is None:
                return SourceQuery(state.op, platform or HOST, objects=True)
            self.seen.append(state.objects)
            return DENY
        return ALLOW


async def test_a_client_may_see_the_objects_of_a_commit(building: Building) -> None:
    building.dockerfile("FROM scratch\nADD https://example.com/r.git#v1 /\n")
    building.sources.images["git://example.com/r.git#v1"] = building.bench.sources.images["docker-image://base"]
    client = building.sessions.sessions["decides"] = Suspicious()
    with pytest.raises(SampanError, match="not allowed by policy"):
        await building.builds.solve(building.request(policy_session="decides"))
    (seen,) = client.seen
    assert (seen.tag, seen.tag_hash) == (b"tag", 40 * "a")


async def test_the_sources_of_a_build_are_what_its_client_allows(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    image = f"docker-image://{BASE}"
    building.sources.images[image] = building.bench.sources.images["docker-image://base"]
    client = building.sessions.sessions["decides"] = Fastidious()
    build = asyncio.create_task(building.builds.solve(building.request(frontend="", policy_session="decides")))
    gateway = await building.builds.gateway("build")
    with pytest.raises(LocatedError, match=f'source "{image}" not allowed by policy') as error:
        await gateway.solve(GatewayRequest(frontend="dockerfile.v0"))
    gateway.fail(error.value)
    with pytest.raises(SampanError):
        await build
    assert {"local://dockerfile", image} <= client.asked
    assert building.bench.executor.ran == []


CHANGE = Rule(Action.CONVERT, f"docker-image://{BASE}", new_identifier="docker-image://docker.io/library/other:latest")


async def test_a_request_of_a_gateway_brings_policies_of_its_own(building: Building) -> None:
    building.dockerfile("FROM base\n")
    image = f"docker-image://{BASE}"
    building.bench.sources.images[image] = building.bench.sources.images["docker-image://base"]
    building.sources.images[image] = building.bench.sources.images[image]
    definition = Graphs(frozenset()).dump(Node(SourceOp(image)).output())
    build = asyncio.create_task(building.builds.solve(building.request(frontend="")))
    gateway = await building.builds.gateway("build")
    denied = (Rule(Action.DENY, "*"),)
    with pytest.raises(PermissionDeniedError, match=f'source "{image}" denied by policy'):
        await gateway.solve(GatewayRequest(definition, policies=(denied,)))
    with pytest.raises(PermissionDeniedError, match="denied by policy"):
        await gateway.resolve_config(ImageQuery(BASE, HOST), (denied,))
    with pytest.raises(PermissionDeniedError, match="denied by policy"):
        await gateway.resolve_source(SourceQuery(SourceOp(image), HOST), (denied,))
    with pytest.raises(UnimplementedError, match="source policies are for definitions"):
        await gateway.solve(GatewayRequest(frontend="dockerfile.v0", policies=(denied,)))
    # They are that request's alone, and what they put in a source's place is not there here.
    assert (await gateway.resolve_config(ImageQuery(BASE, HOST))).reference == BASE
    await gateway.solve(GatewayRequest(definition, evaluate=True))
    with pytest.raises(SampanError, match="other"):
        await gateway.solve(GatewayRequest(definition, evaluate=True, policies=((CHANGE,),)))
    gateway.fail(SampanError("enough"))
    with pytest.raises(SampanError, match="enough"):
        await build
