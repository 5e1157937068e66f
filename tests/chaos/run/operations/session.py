"""What every operation of a client is held to: an answer that is right, or no answer and a kill that explains it.

After a broken answer the client asks for the state, which must be the one before or the one after; then it repeats the
operation until the answer is definite, and the state must be the one after.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from tests.chaos.run.answers import DEADLINE_S, Answer, Kind, Ways
from tests.chaos.run.disturbances import Disturbances
from tests.chaos.run.ledger import QUESTION, REPEATED, Ledger, Verdict

Call = Callable[[], Answer]

_PAUSE_S: Final = 0.05  # between two questions to an engine that is on its way back


class AbandonedError(Exception):
    """What the client was busy with cannot be held to anything any more: it is removed, and the client goes on."""


@dataclass(frozen=True, slots=True)
class Session:
    """One client: its stream of chances, and what it shares with the others."""

    name: str
    rng: random.Random
    ways: Ways
    ledger: Ledger
    disturbances: Disturbances
    unanswered: list[str] = field(default_factory=list)  # containers whose creation may still be under way

    def token(self) -> str:
        """Return a word that no output has had before."""
        return f"{self.name}-{self.rng.getrandbits(48):012x}"

    def once(self, kind: str, call: Call, *, again: bool = False) -> Answer:
        """Carry out one operation.

        An answer may be broken if a process of the engine, or the client itself, was killed meanwhile. An internal
        error is never an answer.
        """
        mark = self.disturbances.mark()
        self.ledger.begin(REPEATED if again else kind)
        try:
            answer = call()
        except TimeoutError as error:
            self.fault(Verdict.HUNG, f"{kind}: no answer for {DEADLINE_S:g} s: {error}")
            raise AbandonedError from None
        if answer.kind is Kind.BROKEN:
            self.ledger.broke(REPEATED if again else kind)
            if not answer.client_killed and not self.disturbances.touched(mark):
                self.fault(Verdict.WRONG, f"{kind}: an error though nothing was killed: {answer}")
        elif answer.code == 500 and not self.disturbances.any_struck(mark):
            self.fault(Verdict.WRONG, f"{kind}: an internal error: {answer}")
        return answer

    def until_definite(self, kind: str, call: Call, *, already: tuple[str, ...] = (), again: bool = False) -> Answer:
        """Carry out an operation, again after each broken answer.

        A refusal with one of the words of ``already`` counts as done if an earlier try may have had its effect:
        one within this call, or with ``again`` before it.

        Raises:
            AbandonedError: nothing definite came in time; that is a fault.
        """
        end = time.monotonic() + DEADLINE_S
        answer = self.once(kind, call, again=again)
        broken = again or answer.kind is Kind.BROKEN
        while answer.kind is Kind.BROKEN:
            if time.monotonic() > end:
                self.fault(Verdict.HUNG, f"{kind}: broken for {DEADLINE_S:g} s, at last: {answer}")
                raise AbandonedError
            time.sleep(_PAUSE_S)
            answer = self.once(kind, call, again=True)
        if broken and answer.kind is Kind.REFUSED and any(words in answer.error for words in already):
            return Answer(Kind.DONE, answer.code, answer.output, answer.error)
        return answer

    def must(self, kind: str, call: Call, *, already: tuple[str, ...] = ()) -> Answer:
        """Carry out an operation that can only succeed, whatever it takes.

        Raises:
            AbandonedError: it was refused; that is a fault.
        """
        answer = self.until_definite(kind, call, already=already)
        if answer.kind is Kind.REFUSED:
            self.fault(Verdict.WRONG, f"{kind}: refused: {answer}")
            raise AbandonedError
        return answer

    def read(self, target: str, /, **query: object) -> Answer:
        """Ask for something until there is a definite answer; 404 is one."""
        return self.until_definite(QUESTION, lambda: self.ways.http("GET", target, query))

    def fault(self, verdict: Verdict, text: str) -> None:
        """Report a fault."""
        self.ledger.fault(verdict, f"{self.name}: {text}")
