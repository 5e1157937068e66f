"""What a check of the engine looks like: findings as they come, and what it comes to."""

import json
import os
from dataclasses import dataclass, field
from typing import IO, Final

from sampan.check import KINDS, Amount, Finding, Login
from sampan.docker.sizes import human_size
from sampan.engine.check import Repaired, Skipped, Step
from sampan_cli.credentials.store import CredentialStore, config_path

# What a check cannot know; said each time, so that "whole" promises nothing more.
_NOT_COVERED: Final = {
    "blobs": "the bytes of blobs and layers, as --quick was given",
    "layer directories": "the content of files in layers that are directories: they have no digest",
    "containers": "what containers and volumes have written: nobody knows what it should be",
}


async def logins(registry: str) -> Login | None:
    """Return the user's credentials for a registry, if there are any."""
    found = await CredentialStore(config_path(os.environ)).get(registry)
    if found is None:
        return None
    return Login(found.username, found.password, found.identity_token, found.registry_token)


@dataclass(slots=True)
class _Entry:
    """A finding, and what became of it."""

    finding: Finding
    repaired: bool = False
    outcome: str = ""


@dataclass(slots=True)
class Report:
    """Everything that a check has said so far."""

    quick: bool
    repair: bool
    _entries: list[_Entry] = field(default_factory=list)
    _amounts: dict[str, Amount] = field(default_factory=dict)
    _databases: set[str] = field(default_factory=set)
    _skipped: list[Skipped] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong any more."""
        return not self._incomplete and all(entry.repaired for entry in self._entries)

    @property
    def _incomplete(self) -> bool:
        return any(skipped.matters for skipped in self._skipped)

    def add(self, step: Step) -> list[str]:
        """Take a step in, and return the lines to print for it."""
        if isinstance(step, Amount):
            if step.what.startswith("database "):  # one of each service, looked at again after it was restored
                self._databases.add(step.what)
            else:
                self._amounts[step.what] = step
            return []
        if isinstance(step, Skipped):
            self._skipped.append(step)
            return [f"not checked: {step.what}: {step.why}"]
        if isinstance(step, Finding):
            self._entries.append(_Entry(step))
            return _lines(step)
        for entry in self._entries:
            if entry.finding is step.finding:
                entry.repaired, entry.outcome = step.outcome.repaired, step.outcome.text
        return [_mended(step)]

    def summary(self) -> list[str]:
        """Return what the check comes to, in lines."""
        checked = [f"{len(self._databases)} databases", *(_amount(one) for one in self._amounts.values() if one.total)]
        lines = [f"Checked {', '.join(checked)}.", *(f"Not covered: {text}." for text in self._not_covered())]
        left = sum(not entry.repaired for entry in self._entries)
        if not self._entries and not self._incomplete:
            lines.append("Everything is whole.")
        elif not left and not self._incomplete:
            lines.append(f"{len(self._entries)} found, all repaired.")
        else:
            lines.append(f"{len(self._entries)} found, {len(self._entries) - left} repaired.")
            if not self.repair and any(entry.finding.mendable for entry in self._entries):
                lines.append("Repair it with: sampan system check --repair")
        return lines

    def json(self) -> str:
        """Return all of it as one object."""
        findings = [
            {
                "kind": entry.finding.kind,
                "subject": entry.finding.subject,
                "path": entry.finding.path,
                "problem": entry.finding.problem,
                "remedy": entry.finding.remedy,
                "affected": list(entry.finding.affected),
                "service": entry.finding.service,
                "mendable": entry.finding.mendable,
                "repaired": entry.repaired,
                "outcome": entry.outcome,
            }
            for entry in sorted(self._entries, key=lambda entry: KINDS.index(entry.finding.kind))
        ]
        checked: dict[str, dict[str, int]] = {"databases": {"count": len(self._databases)}}
        for what, amount in self._amounts.items():
            checked[what] = {"count": amount.done, "bytes": amount.done_bytes}
        answer = {
            "whole": self.whole,
            "findings": findings,
            "checked": checked,
            "skipped": [{"what": skipped.what, "why": skipped.why} for skipped in self._skipped],
            "not_covered": self._not_covered(),
        }
        return json.dumps(answer, indent=2)

    def _not_covered(self) -> list[str]:
        applies = {
            "blobs": self.quick,
            "layer directories": "layer directories" in self._amounts,
            "containers": bool(self._amounts.get("containers", Amount("", 0, 0)).total),
        }
        return [text for what, text in _NOT_COVERED.items() if applies[what]]


class Progress:
    """One line on a terminal, drawn over itself."""

    def __init__(self, terminal: IO[str] | None) -> None:
        self._terminal = terminal
        self._shown = False

    def show(self, step: Step) -> None:
        """Say how far it is."""
        if self._terminal is not None and isinstance(step, Amount):
            self._terminal.write(f"\r\x1b[K{_amount(step, of=True)}")
            self._terminal.flush()
            self._shown = True

    def clear(self) -> None:
        """Make room for other lines."""
        if self._terminal is not None and self._shown:
            self._terminal.write("\r\x1b[K")
            self._terminal.flush()
            self._shown = False


def _lines(finding: Finding) -> list[str]:
    lines = [f"{finding.kind}: {finding.subject}"]
    if finding.path:
        lines.append(f"    path:    {finding.path}")
    lines.append(f"    problem: {finding.problem}")
    if finding.affected:
        lines.append(f"    affects: {', '.join(finding.affected)}")
    lines.append(f"    remedy:  {finding.remedy}")
    return lines


def _mended(step: Repaired) -> str:
    word = "repaired" if step.outcome.repaired else "NOT REPAIRED"
    return f"{word}: {step.finding.kind} {step.finding.subject}: {step.outcome.text}"


def _amount(amount: Amount, *, of: bool = False) -> str:
    count = f"{amount.done}/{amount.total}" if of else str(amount.done)
    size = f" ({human_size(amount.done_bytes)})" if amount.total_bytes else ""
    return f"{count} {amount.what}{size}"
