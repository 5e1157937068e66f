import gzip
from pathlib import Path

import pytest

from runtimed.host.advisories import ADVISORIES, parse_version, sentence, vulnerabilities

NEWEST = {"CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"}


def known(version: str, component: str = "runc", said: str = "", documents: Path = Path("/nowhere")) -> set[str]:
    return set(vulnerabilities(component, version, lambda: said, documents=documents))


@pytest.mark.parametrize(
    ("older", "newer"),
    [("1.0.0-rc95", "1.0.0"), ("1.2.0-rc.2", "1.2.0-rc.3"), ("1.1.9", "1.1.10"), ("1.1.5+ds1", "1.2"), ("odd", "0.1")],
)
def test_versions_are_ordered(older: str, newer: str) -> None:
    assert parse_version(older) < parse_version(newer)


@pytest.mark.parametrize(
    ("version", "cves"),
    [
        ("1.1.5+ds1", {"CVE-2024-21626", "CVE-2024-45310"} | NEWEST),
        ("1.1.12", {"CVE-2024-45310"} | NEWEST),
        ("1.1.14", NEWEST),
        ("1.2.0-rc.2", {"CVE-2024-45310"} | NEWEST),
        ("1.2.0", NEWEST),
        ("1.2.8", set()),
        ("1.3.0", NEWEST),
        ("1.3.3", set()),
        ("1.4.0-rc.2", NEWEST),
        ("1.4.0", set()),
        ("2.0.0", set()),
    ],
)
def test_version_is_affected_until_its_branch_is_fixed(version: str, cves: set[str]) -> None:
    assert known(version) == cves


def test_flaw_of_a_feature_concerns_builds_that_have_it() -> None:
    assert known("1.8.1", "crun", "+SYSTEMD +YAJL") == set()
    assert known("1.8.1", "crun", "+SYSTEMD +LIBKRUN +YAJL") == {"CVE-2025-24965"}


def test_what_the_package_s_changelog_names_is_repaired(tmp_path: Path) -> None:
    (tmp_path / "runc").mkdir()
    with gzip.open(tmp_path / "runc/changelog.Debian.gz", "wt") as changelog:
        changelog.write("runc (1.1.5+ds1-1+deb12u1) bookworm; urgency=medium\n\n  * CVE-2024-21626: leaked fds\n")
    assert known("1.1.5+ds1", documents=tmp_path) == {"CVE-2024-45310"} | NEWEST
    # One that was put beside the package is another one.
    assert "CVE-2024-21626" in known("1.1.4", documents=tmp_path)


def test_table_is_in_order() -> None:
    for advisory in ADVISORIES:
        fixes = [parse_version(text) for text in advisory.fixed]
        assert fixes == sorted(fixes)
        assert all(parse_version(advisory.since) < fix for fix in fixes)


def test_sentence_names_the_program_and_says_what_to_do() -> None:
    said = sentence("runc", "1.1.5", ["CVE-2024-45310"])
    assert said == "runtime runc 1.1.5 has known vulnerabilities: CVE-2024-45310: install a newer runc"
