"""Every protocol that rooms or services owe each other has a suite of contracts, which a fake and the real thing pass.

A suite is a class in tests/contract whose ``promises`` names the protocols that it is about. What narrows one of these
for one user stands beside that user, and has no suite of its own.
"""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

_SHARED = (
    "sampan/resource/protocols.py",
    "sampan/resource/storage/images.py",
    "sampan/resource/storage/snapshots.py",
    "sampan/check.py",
    "sampan/disk.py",
    "sampan/build/protocols.py",
)

# What has no fake: tests work with the real one, and that is as quick.
WITHOUT_FAKE = {
    "sampan.resource.storage.snapshots.Snapshots": "the driver `native` needs neither mounts nor a file system",
    "sampan.resource.storage.snapshots.Differ": "likewise; what buildd's tests freeze are trees of protocol.Trees",
    "buildd.build.protocol.Graphs": "keeps protobuf out of build/: a pure function each way",
    "buildd.build.protocol.Gateway": "works in memory, on the fakes of a build",
}
# What has no suite, and why.
WITHOUT_SUITE = {
    "sampan.check.Checker": "what stands behind Check in a service: the suite of Check runs on each of them",
    "sampan.disk.Collector": "likewise behind Disk",
}

# What each service satisfies behind a client that is the same for all, and where that client's suite runs on it.
BEHIND = ("sampan.check.Checker", "sampan.disk.Collector")
BEHIND_RUN_IN = ROOT / "tests/contract/test_maintenance.py"

_FAKE = ("Fake", "InMemory")  # in the names of test classes that run a suite on a fake


def protocols() -> Iterator[str]:
    """Yield the full name of every protocol."""
    services = (*ROOT.glob("services/*/protocol.py"), *ROOT.glob("services/*/*/protocol.py"))
    for path in (*services, *map(ROOT.joinpath, _SHARED)):
        module = path.relative_to(ROOT).with_suffix("").as_posix().removeprefix("services/").replace("/", ".")
        for node in _classes(ast.parse(path.read_text())):
            if "Protocol" in map(ast.unparse, node.bases):
                yield f"{module}.{node.name}"


def _classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    yield from (node for node in tree.body if isinstance(node, ast.ClassDef))


def _imports(tree: ast.Module) -> dict[str, str]:
    """Return what names in a module stand for."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def suites() -> Mapping[str, set[str]]:
    """Return the suites by the protocols that they are about."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests/contract").glob("*.py")):
        tree = ast.parse(path.read_text())
        known = _imports(tree)
        for suite in _classes(tree):
            for each in suite.body:
                if isinstance(each, ast.AnnAssign) and ast.unparse(each.target) == "promises" and each.value:
                    for name in ast.walk(each.value):
                        if isinstance(name, ast.Name):
                            found.setdefault(known[name.id], set()).add(f"tests.contract.{path.stem}.{suite.name}")
    return found


def users() -> Mapping[str, set[str]]:
    """Return the test classes that run a suite, by its full name."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text()
        if "Contract" not in text:
            continue
        tree = ast.parse(text)
        known = _imports(tree)
        for test in _classes(tree):
            for base in map(ast.unparse, test.bases):
                found.setdefault(known.get(base, base), set()).add(test.name)
    return found


SUITES, USERS = suites(), users()


def runs(protocol: str) -> set[str]:
    return {name for suite in SUITES.get(protocol, ()) for name in USERS.get(suite, ())}


@pytest.mark.parametrize("protocol", [each for each in protocols() if each not in WITHOUT_SUITE])
def test_a_protocol_has_a_suite_that_its_fake_and_the_real_thing_pass(protocol: str) -> None:
    fakes = {name for name in runs(protocol) if any(word in name for word in _FAKE)}
    assert runs(protocol) - fakes, "no suite in tests/contract promises it and is run on the real thing"
    assert fakes or protocol in WITHOUT_FAKE, "no suite that promises it is run on a fake"


def test_exceptions_are_protocols_that_need_to_be_excepted() -> None:
    assert {*WITHOUT_SUITE, *WITHOUT_FAKE} <= set(protocols())
    assert [each for each in WITHOUT_SUITE if runs(each)] == []
    assert [each for each in WITHOUT_FAKE if any(word in name for name in runs(each) for word in _FAKE)] == []


def test_suites_of_check_and_disk_run_on_whatever_stands_behind_them_in_a_service() -> None:
    behind = {
        node.name
        for path in sorted((ROOT / "services").rglob("*.py"))
        for node in _classes(ast.parse(path.read_text()))
        if any(f"Satisfies ``{one}``" in (ast.get_docstring(node) or "") for one in BEHIND)
    }
    assert behind, "nothing says what it satisfies"
    assert behind <= {node.id for node in ast.walk(ast.parse(BEHIND_RUN_IN.read_text())) if isinstance(node, ast.Name)}
