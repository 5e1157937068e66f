"""Say what failed in a run of all tests, and add up: the end of what a run prints, after all that engines had logged.

A test that failed and passed when it ran again, alone, is named too, and counted as passed and as "rerun".

It fits a screen, since who looks at CI's log may see no more than its last lines: each test that failed, with its group
and its reason in one line, then as much of the tracebacks as there is room for, and one closing line in pytest's words.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

# All that is told of failures. CI shows some forty lines, of which the shell and make write some as well.
MOST_LINES = 32
MOST_CHARACTERS = 240  # of a line

# Exit codes of pytest that its report explains: all passed, some failed, nothing was chosen.
_REPORTED = ("0", "1", "5")

# Of a traceback: what the error itself says, and where it was raised.
_SAID = re.compile(r"E(?:   (.*))?$")
_PLACE = re.compile(r"\S+\.py:\d+: \w+")


@dataclass(frozen=True, slots=True)
class Failure:
    """A test that failed, or a group that ended otherwise than tests can make it."""

    title: str  # what failed and why, in one line
    details: tuple[str, ...] = ()  # what else is known, the best of it first
    passed_again: bool = False  # alone, after all others

    def lines(self, most: int) -> list[str]:
        """Return at most so many lines that tell of it."""
        return [_cut(self.title), *(_cut(f"    {line}") for line in self.details)][:most]


def failures(suites: ElementTree.Element) -> Iterator[Failure]:
    """Yield what failed, by what pytest reports in JUnit's format."""
    for case in suites.iter("testcase"):
        for found in case:
            if found.tag in ("failure", "error"):
                yield _failure(case, found)


def _failure(case: ElementTree.Element, found: ElementTree.Element) -> Failure:
    text = [line.rstrip() for line in (found.text or "").splitlines() if line.strip()]
    said = [match[1].strip() for line in text if (match := _SAID.match(line)) and match[1]]
    places = [line for line in text if _PLACE.match(line)]
    # One without a traceback is all text; an engine's log comes last in it.
    told = said or text or [found.get("message", "")]
    stage = re.match(r"failed on (setup|teardown)", found.get("message", ""))
    kind = f"ERROR at {stage[1]} of" if stage else {"failure": "FAILED", "error": "ERROR"}[found.tag]
    return Failure(f"{kind} {_test(case)}: {told[0]}", (*places[-1:], *told[1:]))


def _test(case: ElementTree.Element) -> str:
    """Return the test's ID as pytest takes it."""
    module, _, inner = case.get("classname", "").partition(".Test")
    path = [f"{module.replace('.', '/')}.py"] if module else []  # a file that cannot be imported is its own test
    return "::".join([*path, *([f"Test{inner}"] if inner else []), case.get("name", "")])


def _cut(line: str) -> str:
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 1]}…"


def told(found: Sequence[Failure], most: int = MOST_LINES) -> list[str]:
    """Return at most so many lines about all of them: each one's first, and of what else is known equal parts."""
    if not found:
        return []
    if len(found) > most:
        return [*(line for each in found[: most - 1] for line in each.lines(1)), f"and {len(found) - most + 1} others"]
    share, more = divmod(most, len(found))
    return [line for number, each in enumerate(found) for line in each.lines(share + (number < more))]


def _group(work: Path, group: str) -> tuple[ElementTree.Element | None, list[Failure]]:
    """Return a group's report, if there is one, and what failed in it."""
    status = (work / f"{group}.status").read_text().strip() if (work / f"{group}.status").exists() else "no status"
    try:
        suites = ElementTree.parse(work / f"{group}.xml").getroot()
    except (FileNotFoundError, ElementTree.ParseError):
        suites = None
    found = list(failures(suites)) if suites is not None else []
    again = work / f"{group}.again.status"
    if found and again.exists() and again.read_text().strip() == "0":
        return suites, [Failure(f"passed when run again: {each.title}", each.details, True) for each in found]
    if suites is None or (status not in _REPORTED and not found):
        log = work / f"{group}.log"
        last = log.read_text(errors="replace").splitlines()[-12:] if log.exists() else []
        found.append(Failure(f"ERROR tests/{group}: pytest ended with {status}", tuple(last)))
    return suites, found


def main(seconds: str, directory: str, *groups: str) -> int:
    """Print it, of the files <group>.{xml,status,log}; the exit code says whether there was any test."""
    total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    found: list[Failure] = []
    reruns = 0
    for group in groups:
        suites, told_of = _group(Path(directory), group)
        found += told_of
        passed_again = sum(each.passed_again for each in told_of)
        reruns += passed_again
        for suite in suites.iter("testsuite") if suites is not None else ():
            for key in total:
                total[key] += int(suite.get(key, "0")) if key in ("tests", "skipped") or not passed_again else 0
    passed = total["tests"] - total["failures"] - total["errors"] - total["skipped"]
    counts = {"failed": total["failures"], "passed": passed, "skipped": total["skipped"], "errors": total["errors"]}
    counts["rerun"] = reruns
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    for line in told(found):
        print(line)
    print(f"==== {words or 'no tests ran'} in {float(seconds):.2f}s ====")
    return 0 if passed or total["failures"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
