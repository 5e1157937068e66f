"""Vulnerabilities that are known of the programs that containers are run with, by their versions.

A table, since whoever runs an engine without a way to the internet should be told, too. It errs on the side of
telling; what a distribution has backported is read from the changelog of its package, which names it. conmon has no
row: none is known of the versions that this engine works with.
"""

import gzip
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_VERSION: Final = re.compile(r"v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:[-~.]?rc[-.]?(\d{1,4}))?", re.ASCII)
_RELEASE: Final = 1 << 20  # comes after every candidate
_CVE: Final = re.compile(r"CVE-\d{4}-\d{4,7}", re.ASCII)
_DOCUMENTS: Final = Path("/usr/share/doc")
_CHANGELOG_BYTES: Final = 1 << 20

Version = tuple[int, int, int, int]  # the last is that of a release candidate


@dataclass(frozen=True, slots=True)
class Advisory:
    """One row: the versions from ``since`` on are affected, but those from ``fixed`` on in each branch."""

    component: str
    cve: str
    fixed: tuple[str, ...]  # in rising order: a branch that is not named is fixed above the last alone
    since: str = "0.0.0"
    feature: str = ""  # only builds that name it in --version


ADVISORIES: Final = (
    Advisory("runc", "CVE-2019-5736", ("1.0.0-rc7",)),
    Advisory("runc", "CVE-2019-16884", ("1.0.0-rc9",)),
    Advisory("runc", "CVE-2019-19921", ("1.0.0-rc10",)),
    Advisory("runc", "CVE-2021-30465", ("1.0.0-rc95",)),
    Advisory("runc", "CVE-2021-43784", ("1.0.3",)),
    Advisory("runc", "CVE-2022-29162", ("1.1.2",)),
    Advisory("runc", "CVE-2023-25809", ("1.1.5",)),
    Advisory("runc", "CVE-2023-27561", ("1.1.5",), since="1.0.0-rc95"),
    Advisory("runc", "CVE-2023-28642", ("1.1.5",)),
    Advisory("runc", "CVE-2024-21626", ("1.1.12",), since="1.0.0-rc93"),
    Advisory("runc", "CVE-2024-45310", ("1.1.14", "1.2.0-rc3")),
    Advisory("runc", "CVE-2025-31133", ("1.2.8", "1.3.3", "1.4.0-rc3")),
    Advisory("runc", "CVE-2025-52565", ("1.2.8", "1.3.3", "1.4.0-rc3"), since="1.0.0-rc3"),
    Advisory("runc", "CVE-2025-52881", ("1.2.8", "1.3.3", "1.4.0-rc3")),
    Advisory("crun", "CVE-2019-18837", ("0.10.5",)),
    Advisory("crun", "CVE-2022-27650", ("1.4.4",)),
    Advisory("crun", "CVE-2025-24965", ("1.20",), feature="LIBKRUN"),
)


def parse_version(text: str) -> Version:
    """Return what orders versions, zeros if it is none: ``1.1.5+ds1`` is 1.1.5, ``1.2.0-rc.2`` comes before 1.2.0."""
    match = _VERSION.match(text)
    if match is None:
        return 0, 0, 0, 0
    major, minor, patch, candidate = match.groups()
    return int(major), int(minor), int(patch or 0), int(candidate) if candidate else _RELEASE


def vulnerabilities(
    component: str, version: str, said: Callable[[], str], *, documents: Path = _DOCUMENTS
) -> list[str]:
    """Return the CVEs that are known of ``version``, without those that its package has backported the fixes of.

    Args:
        component: the program's name.
        version: as it states it.
        said: returns all that its ``--version`` says; called only if that matters.
        documents: where packages' changelogs are.
    """
    number = parse_version(version)
    known = [
        advisory.cve
        for advisory in ADVISORIES
        if advisory.component == component
        and _affects(advisory, number)
        and (not advisory.feature or advisory.feature in said())
    ]
    backported = _named_in_changelog(documents / component / "changelog.Debian.gz", component, version) if known else ()
    return [cve for cve in known if cve not in backported]


def sentence(component: str, version: str, cves: Sequence[str]) -> str:
    """Return what a user is told."""
    return f"runtime {component} {version} has known vulnerabilities: {', '.join(cves)}: install a newer {component}"


def _affects(advisory: Advisory, version: Version) -> bool:
    if not parse_version(advisory.since) <= version:
        return False
    fixes = [parse_version(text) for text in advisory.fixed]
    if version >= fixes[-1]:
        return False
    return not any(fix[:2] == version[:2] and version >= fix for fix in fixes)


def _named_in_changelog(path: Path, component: str, version: str) -> frozenset[str]:
    """Return the CVEs in a Debian package's changelog, if it is that of ``version``."""
    try:
        with gzip.open(path) as changelog:
            text = changelog.read(_CHANGELOG_BYTES).decode(errors="replace")
    except (OSError, EOFError):
        return frozenset()
    if not text.startswith(f"{component} ({version}"):  # another one is installed beside the package
        return frozenset()
    return frozenset(_CVE.findall(text))
