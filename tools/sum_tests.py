"""Add up JUnit files into one closing line in pytest's words; fail if nothing passed or failed."""

import sys
from pathlib import Path
from xml.etree import ElementTree


def main(seconds: str, *paths: str) -> int:
    """Print the line, with the seconds that all took; the exit code says whether there was anything to add up."""
    total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in (
        suite for path in paths if Path(path).exists() for suite in ElementTree.parse(path).iter("testsuite")
    ):
        for key in total:
            total[key] += int(suite.get(key, "0"))
    passed = total["tests"] - total["failures"] - total["errors"] - total["skipped"]
    counts = {"failed": total["failures"], "passed": passed, "skipped": total["skipped"], "errors": total["errors"]}
    words = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
    print(f"==== {words or 'no tests ran'} in {float(seconds):.2f}s ====")
    return 0 if passed or total["failures"] else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
