import base64
from pathlib import Path
from typing import Any

import pytest

from runtimed.oci.security.seccomp import CompiledFilters

ANNOTATION = "run.oci.seccomp_bpf_data"
FILTER = b"\x06\x00\x00\x00\x00\x00\xff\x7f"


def config(action: str = "SCMP_ACT_ERRNO", **annotations: str) -> dict[str, Any]:
    return {"annotations": annotations, "linux": {"seccomp": {"defaultAction": action}}}


def left(directory: Path, content: bytes = FILTER) -> Path:
    (directory / "seccomp.bpf").write_bytes(content)
    return directory


def test_a_second_container_of_the_same_rules_is_given_what_the_first_one_left(tmp_path: Path) -> None:
    filters = CompiledFilters()
    rules = filters.put_in("crun", first := config())
    assert first == config()
    filters.learn("crun", rules, left(tmp_path))
    assert filters.put_in("crun", second := config(own="kept")) == ""
    assert second["annotations"] == {"own": "kept", ANNOTATION: base64.b64encode(FILTER).decode()}
    assert second["linux"] == first["linux"]


def test_other_rules_and_other_runtimes_have_other_filters(tmp_path: Path) -> None:
    filters = CompiledFilters()
    filters.learn("crun", filters.put_in("crun", config()), left(tmp_path))
    for runtime, action in (("crun", "SCMP_ACT_LOG"), ("other", "SCMP_ACT_ERRNO")):
        asked = config(action)
        assert filters.put_in(runtime, asked)
        assert asked == config(action)


@pytest.mark.parametrize(
    "given",
    [
        {"linux": {}},
        {"linux": {"seccomp": {"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/run/listener"}}},
        config(**{ANNOTATION: "brought along"}),
        config(**{"run.oci.seccomp_fail_unknown_syscall": "1"}),
    ],
)
def test_what_is_not_of_the_rules_alone_is_left_alone(tmp_path: Path, given: dict[str, Any]) -> None:
    filters = CompiledFilters()
    filters.learn("crun", filters.put_in("crun", config()), left(tmp_path))
    before = repr(given)
    assert filters.put_in("crun", given) == ""
    assert repr(given) == before


@pytest.mark.parametrize("content", [None, b"", FILTER[:-1]])
def test_a_runtime_that_leaves_no_filter_goes_by_the_rules(tmp_path: Path, content: bytes | None) -> None:
    filters = CompiledFilters()
    state = tmp_path if content is None else left(tmp_path, content)
    filters.learn("runc", filters.put_in("runc", config()), state)
    assert filters.put_in("runc", asked := config())
    assert asked == config()


def test_rules_that_are_many_do_not_fill_the_memory(tmp_path: Path) -> None:
    filters = CompiledFilters()
    left(tmp_path)
    for number in range(40):
        filters.learn("crun", filters.put_in("crun", config(f"rule {number}")), tmp_path)
    known = [not filters.put_in("crun", config(f"rule {number}")) for number in range(40)]
    assert known == [False] * 8 + [True] * 32
