"""Which sources a build may use: by the rules of its policy, and by what its client's session says of each.

A client that is asked may want to know more of a source before it decides. What is looked up for that is no part of
the build: the source may be denied, or another one taken.

Reference: moby/buildkit, sourcepolicy/policysession.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from buildd.build.protocol import SourceQuery, SourceState
from buildd.llb.ops import SourceOp
from buildd.session.protocol import PolicyDecision
from sampan.build.policy import Action, Policies, Source, SourcePolicy
from sampan.errors import InvalidArgumentError, PermissionDeniedError
from sampan.oci.platform import Platform

_MAX_QUESTIONS: Final = 10  # about one source, those about what is taken instead among them


class PolicyDeniedError(PermissionDeniedError):
    """The client's session denies a source; ``messages`` say why, in its words."""

    def __init__(self, message: str, messages: tuple[str, ...]) -> None:
        super().__init__(message)
        self.messages = messages


class Verifier(Protocol):
    """The part of ``session.protocol.Session`` that is needed."""

    async def check_policy(self, state: SourceState, platform: Platform | None) -> PolicyDecision | SourceQuery:
        """See ``session.protocol.Session``."""


@dataclass(frozen=True, slots=True)
class _Asked:
    identifier: str
    attributes: frozenset[tuple[str, str]]
    platform: Platform | None


class SourceJudge:
    """Decides for one build."""

    def __init__(
        self,
        rules: SourcePolicy,
        verifier: Callable[[], Awaitable[Verifier]] | None = None,
        look: Callable[[SourceQuery], Awaitable[SourceState]] | None = None,
    ) -> None:
        """Judge by rules, which come first, and by a client.

        Args:
            rules: of the build.
            verifier: returns the client's session that decides; None: no session does.
            look: finds out what a source is, whether or not it is allowed.
        """
        self._rules = rules
        self._verifier = verifier
        self._look = look
        self._taken: dict[_Asked, SourceOp] = {}

    async def allowed(self, op: SourceOp, platform: Platform | None) -> SourceOp:
        """Return what is taken for a source: the very same operation, if it is that. A ``buildd.protocol.Judge``.

        Raises:
            PermissionDeniedError: nothing is.
            InvalidArgumentError: the conversions or the client's questions come to no end, or mean another source.
            SampanError: as ``Session.check_policy``, and what looking at the source raises.
        """
        if self._verifier is None:
            return self.by_rules(op)
        asked = _Asked(op.identifier, frozenset(op.attrs.items()), platform)
        if asked not in self._taken:
            self._taken[asked] = await self._by_client(op, platform)
        taken = self._taken[asked]
        return op if taken == op else taken

    def beside(self, policies: Policies) -> "SourceJudge":
        """Return who decides by these policies as well, after the build's own. Raises InvalidArgumentError."""
        if not policies:
            return self
        return SourceJudge(self._rules.and_then(*policies), self._verifier, self._look)

    def by_rules(self, op: SourceOp) -> SourceOp:
        """Return what is taken for a source if nobody is asked: the very same operation, if it is that.

        Raises:
            PermissionDeniedError: nothing is.
            InvalidArgumentError: the conversions come to no end.
        """
        asked = Source(op.identifier, op.attrs)
        taken = self._rules.apply(asked)
        return op if taken == asked else SourceOp(taken.identifier, taken.attributes)

    async def _by_client(self, op: SourceOp, platform: Platform | None) -> SourceOp:
        assert self._verifier is not None
        assert self._look is not None
        verifier = await self._verifier()
        op = self.by_rules(op)
        state = SourceState(op)
        for _ in range(_MAX_QUESTIONS):
            answer = await verifier.check_policy(state, platform)
            if isinstance(answer, SourceQuery):
                _check_same(op, answer.op)
                state = await self._look(answer)
                continue
            if answer.action is Action.CONVERT:
                if answer.update is None:
                    raise InvalidArgumentError("convert action requires updated source")
                if answer.update == op:
                    return op
                op = self.by_rules(answer.update)
                state = SourceState(op)
                continue
            if answer.action is not Action.ALLOW:
                words = f'source "{op.identifier}" not allowed by policy: action {answer.action.name}'
                raise PolicyDeniedError(words, answer.messages)
            return op
        raise InvalidArgumentError("too many policy requests")


def _check_same(op: SourceOp, asked: SourceOp) -> None:
    if asked.identifier != op.identifier:
        raise InvalidArgumentError(
            f'policy requested different source identifier: "{asked.identifier}" != "{op.identifier}"'
        )
    if dict(asked.attrs) != dict(op.attrs):
        raise InvalidArgumentError("policy requested different source attrs")
