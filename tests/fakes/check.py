"""A service's own check, in memory."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from sampan.check import KINDS, Amount, Finding, Means, Outcome, Step
from sampan.errors import InvalidArgumentError


@dataclass(slots=True)
class FakeCheck:
    """Satisfies ``sampan.check.Check``, and ``sampan.check.Checker``: finds what a test says is wrong."""

    wrong: list[Finding] = field(default_factory=list)
    kinds: tuple[str, ...] = KINDS
    asked: list[Means] = field(default_factory=list)  # what repairs were given
    quick: list[bool] = field(default_factory=list)

    async def check(self, *, quick: bool = False) -> AsyncGenerator[Step, None]:
        self.quick.append(quick)
        total = len(self.wrong)
        yield Amount("things", 0, total)
        for number, finding in enumerate(tuple(self.wrong), 1):
            yield finding
            yield Amount("things", number, total)

    async def repair(self, finding: Finding, means: Means) -> Outcome:
        self.asked.append(means)
        if finding.kind not in self.kinds:
            raise InvalidArgumentError(f"the fake repairs nothing of the kind {finding.kind!r}")
        self.wrong = [one for one in self.wrong if (one.kind, one.subject) != (finding.kind, finding.subject)]
        return Outcome(repaired=True, text="made whole")

    async def restored(self, deadline_s: float) -> str:
        return ""
