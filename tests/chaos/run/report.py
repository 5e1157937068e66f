"""What a run says of itself when it is over."""

import re
import time
from collections import Counter

from tests.chaos.run.ledger import Fault, Ledger, Verdict

_SHOWN = 40


def report(ledger: Ledger, seed: int, seconds: float) -> str:
    """Return the report: the seed, what was done, who was killed, and every fault."""
    lines = [
        f"seed {seed}, {seconds:.0f} s",
        f"operations {ledger.operations.total()}: {_counts(ledger.operations)}; {_counts(ledger.asides)}",
        f"left without an answer by a kill {ledger.broken.total()}: {_counts(ledger.broken)}",
        f"kills {ledger.kills.total()}: {_counts(ledger.kills)}",
        ", ".join(f"{ledger.count(verdict)} {verdict.value}" for verdict in Verdict),
    ]
    kinds: dict[str, list[Fault]] = {}
    for fault in ledger.faults:
        kinds.setdefault(fault.verdict.value + re.sub(r"[0-9a-f]{6,}|\d+", "#", fault.text), []).append(fault)
    for fault, *others in list(kinds.values())[:_SHOWN]:
        at = time.strftime("%H:%M:%S", time.gmtime(fault.at))
        lines.append(f"  {fault.verdict.value}, {at} at operation {fault.operation}: {fault.text}")
        if fault.kills:
            lines.append(f"    latest kills: {', '.join(fault.kills)}")
        if others:
            lines.append(f"    and {len(others)} more of this kind")
    if len(kinds) > _SHOWN:
        lines.append(f"  … and {len(kinds) - _SHOWN} more kinds")
    return "\n".join(lines)


def _counts(counted: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in counted.most_common())
