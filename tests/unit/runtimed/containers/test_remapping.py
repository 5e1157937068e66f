"""Which IDs containers get that do not say otherwise."""

import pwd
from dataclasses import replace
from pathlib import Path

import pytest

from runtimed.containers.remapping import Remapping, read_remapping
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ContainerSpec, IdMapping, Namespaces, Security

ROOT = pwd.getpwuid(0).pw_name


def read(directory: Path, text: str, subuid: str, subgid: str = "") -> Remapping | None:
    for name, content in (("subuid", subuid), ("subgid", subgid or subuid)):
        (directory / name).write_text(content)
    return read_remapping(text, directory / "subuid", directory / "subgid")


def test_without_a_user_there_is_none(tmp_path: Path) -> None:
    assert read_remapping("", tmp_path / "no", tmp_path / "no") is None


def test_ranges_follow_on_one_another_in_their_order(tmp_path: Path) -> None:
    lines = "other:1:1\n\nme:200000:1000\n# me:5:5\nme:100000:65536\n"
    found = read(tmp_path, "me", lines)
    expected = (IdMapping(0, 200_000, 1000), IdMapping(1000, 100_000, 65_536))
    assert found == Remapping(expected, expected)


def test_a_group_has_ranges_of_its_own(tmp_path: Path) -> None:
    found = read(tmp_path, "me:us", "me:100000:10\n", "me:300000:10\nus:200000:10\n")
    assert found == Remapping((IdMapping(0, 100_000, 10),), (IdMapping(0, 200_000, 10),))


@pytest.mark.parametrize(
    ("text", "line"), [(ROOT, "0"), ("0", ROOT), ("4000000000", "4000000000"), ("default", "dockremap")]
)
def test_a_user_is_known_by_name_and_by_number(tmp_path: Path, text: str, line: str) -> None:
    found = read(tmp_path, text, f"{line}:100000:10\n")
    assert found is not None
    assert found.uids == (IdMapping(0, 100_000, 10),)


@pytest.mark.parametrize(
    ("text", "lines", "why"),
    [
        (
            "default",
            "me:1:1\n",
            r"no subuid ranges found for user 'dockremap': .*/subuid has no line such as \"dockremap:",
        ),
        ("me", "me:x:1\n", "is not name:first:count"),
        ("me", "me:100000\n", "is not name:first:count"),
        ("me", f"me:{'9' * 11}:1\n", "is not name:first:count"),
        ("me", "me:100000:0\n", "has IDs that cannot be"),
        ("me", "me:4294967295:1\n", "has IDs that cannot be"),
        ("me", "me:0:65536\n", "would give containers the host's root"),
        ("me", "me:100000:10\nme:100009:10\n", "ranges from 100000 and 100009 overlap"),
        (
            "me",
            "".join(f"me:{number * 10 + 10}:1\n" for number in range(301)),
            "more ranges for user 'me' than there can be",
        ),
        (":us", "", "is no user"),
        ("me:", "", "is no user"),
    ],
)
def test_ranges_that_cannot_be_are_named(tmp_path: Path, text: str, lines: str, why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^userns_remap: .*{why}"):
        read(tmp_path, text, lines)


def test_a_file_that_is_not_there_has_no_ranges(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="no subuid ranges found for user 'me'"):
        read_remapping("me", tmp_path / "subuid", tmp_path / "subgid")


REMAPPING = Remapping((IdMapping(0, 100_000, 10),), (IdMapping(0, 200_000, 10),))


def test_containers_get_the_ids_unless_they_ask_for_the_host_s() -> None:
    modes = REMAPPING.apply(ContainerSpec()).namespaces
    assert (modes.uid_mappings, modes.gid_mappings) == (REMAPPING.uids, REMAPPING.gids)
    asks = ContainerSpec(namespaces=Namespaces(user="host", pid="host"), security=Security(privileged=True))
    assert REMAPPING.apply(asks) is asks


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        (ContainerSpec(security=Security(privileged=True)), "privileged mode is incompatible with user namespaces"),
        (ContainerSpec(namespaces=Namespaces(network="host")), "cannot share the host's network namespace when user"),
        (ContainerSpec(namespaces=Namespaces(pid="host")), "cannot share the host PID namespace when user namespaces"),
    ],
)
def test_what_nobody_has_in_a_user_namespace_is_refused(spec: ContainerSpec, why: str) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        REMAPPING.apply(spec)
    REMAPPING.apply(replace(spec, namespaces=replace(spec.namespaces, user="host")))
