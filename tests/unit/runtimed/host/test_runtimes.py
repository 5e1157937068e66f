"""Which runtime is chosen, and what is remembered of those that were tried."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from runtimed.cgroups.naming import CgroupNames
from runtimed.host import runtimes as module
from runtimed.host.facts import CgroupTree
from runtimed.host.info import Choices, Installed, security_options, warnings
from runtimed.host.runtimes import Runtime, Runtimes, find_runtimes, named_paths
from sampan.errors import InvalidArgumentError
from tests.unit.runtimed.bundle_values import HOST

CRUN = Runtime("crun", "/usr/bin/crun", "1.8.1", usable=False, reason="hybrid mode")
RUNC = Runtime("runc", "/usr/sbin/runc", "1.1.5", usable=True)


def fake(directory: Path, name: str, *, works: bool, version: str = "9.9") -> str:
    """A runtime that counts its calls, and makes containers of nothing."""
    path = directory / name
    create = "sleep 100 & echo $! >$7" if works else 'echo \'time="x" level=error msg="no way"\' >&2; exit 1'
    path.write_text(
        f"#!/bin/sh\necho call >>{directory}/{name}.calls\n"
        f'case "$1 $3" in\n--version*) echo {name} version {version};;\n*create) {create} ;;\nesac\n'
    )
    path.chmod(0o755)
    return str(path)


def find(directory: Path, monkeypatch: pytest.MonkeyPatch, preferred: str = "auto") -> Runtimes:
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    monkeypatch.setattr(module, "PREFERRED", ("good", "bad"))
    return find_runtimes(
        HOST,
        scratch=directory,
        cache=directory / "cache.json",
        cgroups=CgroupNames("none"),
        preferred=preferred,
        places=(),
    )


def test_what_works_is_the_default_and_what_does_not_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "good", works=True)
    fake(tmp_path, "bad", works=False)
    found = find(tmp_path, monkeypatch)
    assert found.default == "good"
    assert [(one.name, one.version, one.usable, one.reason) for one in found.found] == [
        ("good", "9.9", True, ""),
        ("bad", "9.9", False, "no way"),
    ]


def test_of_several_the_newest_that_works_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [tmp_path / name for name in ("first", "newer", "broken", "same")]
    for place, version in zip(places, ("1.9.0", "1.10.0", "2.0.0", "1.10.0"), strict=True):
        place.mkdir()
        fake(place, "good", works=place.name != "broken", version=version)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/good").symlink_to(places[0] / "good")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{places[0]}:/usr/bin:/bin")
    monkeypatch.setattr(module, "PREFERRED", ("good",))
    found = find_runtimes(
        HOST,
        scratch=tmp_path,
        cache=tmp_path / "cache.json",
        cgroups=CgroupNames("none"),
        places=[str(place) for place in places[1:]],
    )
    assert [(one.path, one.version) for one in found.found] == [(f"{places[1]}/good", "1.10.0")]


def test_nothing_is_tried_again_until_a_binary_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "good", works=True)
    first = find(tmp_path, monkeypatch)
    calls = (tmp_path / "good.calls").read_text()
    assert find(tmp_path, monkeypatch) == first
    assert (tmp_path / "good.calls").read_text() == calls
    fake(tmp_path, "good", works=False).encode()
    assert find(tmp_path, monkeypatch).default == ""


@pytest.mark.parametrize("hanging", ["--version", "create"])
def test_one_that_does_not_answer_in_time_is_tried_again_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hanging: str
) -> None:
    path = Path(fake(tmp_path, "good", works=True))
    works = path.read_text()
    path.write_text(works.replace('case "$1 $3" in\n', f'case "$1 $3" in\n*{hanging}*) exec sleep 100 ;;\n'))
    with monkeypatch.context() as patched:
        patched.setattr(module, "_TIMEOUT_S", 0.2)
        (found,) = find(tmp_path, patched).found
    assert (found.usable, found.reason) == (False, "trial took longer than 0.2 s")
    age = path.stat().st_mtime_ns
    path.write_text(works.ljust(path.stat().st_size))
    os.utime(path, ns=(age, age))  # nothing has changed but the machine
    assert find(tmp_path, monkeypatch).default == "good"


def test_one_that_needs_it_is_called_apart_and_runs_apart_as_shortly_as_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Path(fake(tmp_path, "good", works=True))
    good.write_text(good.read_text().replace("*create)", '*create) [ -n "$APART" ] || { echo hybrid >&2; exit 1; };'))
    fake(tmp_path, "bad", works=True)
    (tmp_path / "busybox").write_text('#!/bin/sh\n[ "$1 $5" = "unshare busybox" ] && shift 11 && APART=1 exec "$@"\n')
    (tmp_path / "busybox").chmod(0o755)
    trees = (CgroupTree(Path("/groups/unified"), 2, frozenset({"hugetlb"})),)
    monkeypatch.setattr("tests.unit.runtimed.host.test_runtimes.HOST", replace(HOST, trees=trees))
    found = find(tmp_path, monkeypatch)
    assert found == find(tmp_path, monkeypatch)  # what is remembered
    assert found.default == "good"
    assert found.choose("").creates_by[0] == f"{tmp_path}/busybox"
    assert found.choose("").creates_by[-2:] == ("/groups", "/groups/unified")
    assert found.choose("bad").creates_by == ()
    assert found.choose_to_stay().name == "bad"
    assert Runtimes(found.found[:1], "good").choose_to_stay().name == "good"
    (tmp_path / "busybox").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "unshare").symlink_to(tmp_path / "busybox")
    (tmp_path / "cache.json").unlink()
    refused = find(tmp_path, monkeypatch)
    assert (refused.default, refused.found[0].reason) == ("bad", "hybrid")


@pytest.mark.parametrize(("version", "apart"), [("1.8.1", True), ("1.9", False)])
def test_one_that_refuses_controllers_is_called_apart_before_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, apart: bool
) -> None:
    fake(tmp_path, "good", works=True, version=version)
    (tmp_path / "busybox").write_text('#!/bin/sh\nshift 11; exec "$@"\n')
    (tmp_path / "busybox").chmod(0o755)
    trees = (CgroupTree(Path("/groups/unified"), 2, frozenset()),)
    monkeypatch.setattr("tests.unit.runtimed.host.test_runtimes.HOST", replace(HOST, trees=trees))
    monkeypatch.setattr(module, "_REFUSES_HYBRID", "good")
    assert bool(find(tmp_path, monkeypatch).choose("").creates_by) == apart


@pytest.mark.parametrize(
    ("printed", "told"),
    [('{"ociVersionMin": "1.0.0",\n "hooks": ["poststop"]}', '{"ociVersionMin":"1.0.0","hooks":["poststop"]}'),
     ("[1]", ""), ("unknown command", ""), ('{"a": 1', "")],
)  # fmt: skip
def test_features_are_told_if_they_are_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: str, told: str
) -> None:
    good = Path(fake(tmp_path, "good", works=True))
    good.write_text(good.read_text() + f"[ \"$1\" != features ] || echo '{printed}'\n")
    assert [one.features for one in find(tmp_path, monkeypatch).found] == [told]
    assert [one.features for one in find(tmp_path, monkeypatch).found] == [told]  # what is remembered


def test_a_runtime_without_features_works_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = Path(fake(tmp_path, "good", works=True))
    good.write_text(good.read_text() + '[ "$1" != features ] || exit 1\n')
    (found,) = find(tmp_path, monkeypatch).found
    assert (found.usable, found.features) == (True, "")


def test_a_damaged_cache_is_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "good", works=True)
    (tmp_path / "cache.json").write_text("[1")
    assert find(tmp_path, monkeypatch).default == "good"


def test_a_preferred_runtime_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgumentError, match="unknown or invalid runtime name: kata"):
        find(tmp_path, monkeypatch, preferred="kata")


def test_choosing_takes_the_default_an_alias_or_a_name() -> None:
    found = Runtimes((CRUN, RUNC), "runc")
    assert found.choose("") == found.choose("runc") == found.choose("io.containerd.runc.v2") == RUNC
    with pytest.raises(InvalidArgumentError, match="runtime crun cannot be used on this host: hybrid mode"):
        found.choose("crun")
    with pytest.raises(InvalidArgumentError, match="unknown or invalid runtime name: kata"):
        found.choose("kata")
    with pytest.raises(InvalidArgumentError, match="no OCI runtime can be used on this host: crun: hybrid mode"):
        Runtimes((CRUN,), "").choose("")


def test_info_warns_of_what_does_not_work() -> None:
    installed = Installed(Runtimes((CRUN, RUNC), "runc"), "2.1.6", None)
    assert warnings(HOST, installed, Choices()) == [
        "WARNING: no init program is installed: --init cannot be used",
        "WARNING: runtime crun 1.8.1 cannot be used: hybrid mode",
        "WARNING: no CAP_SYS_RESOURCE: ulimits cannot be raised above the engine's own",
    ]
    assert security_options(HOST, Choices()) == ["name=seccomp,profile=builtin"]
    chosen = Choices(seccomp_profile="unconfined", no_new_privileges=True)
    assert security_options(HOST, chosen) == ["name=seccomp,profile=unconfined", "name=no-new-privileges"]
    assert warnings(HOST, installed, chosen)[0] == "WARNING: daemon is not using the default seccomp profile"


def test_further_runtimes_have_names_and_paths() -> None:
    assert named_paths(("runsc=/usr/local/bin/runsc", "kata=/opt/a=b")) == {
        "runsc": "/usr/local/bin/runsc",
        "kata": "/opt/a=b",
    }
    for entry in ("runsc", "=/bin/x", "x=", "a/b=/c"):
        with pytest.raises(InvalidArgumentError, match="is not name=path"):
            named_paths((entry,))
