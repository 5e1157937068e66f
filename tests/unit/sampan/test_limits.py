"""What is too large to come in."""

from dataclasses import dataclass, field, replace

import pytest

from sampan import limits
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ContainerSpec, Process


@dataclass(frozen=True)
class Record:
    """A record."""

    name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    mount_points: tuple[str, ...] = ()


def test_text_counts_with_its_bytes_and_an_item_with_its_frame() -> None:
    assert limits.size_of("ab") == 2
    assert limits.size_of("äö") == 4
    assert limits.size_of("\ud800") == 3
    assert limits.size_of({"a": "bc"}) == 3 + 8
    assert limits.size_of(("a", "bc")) == 3 + 16
    assert limits.size_of(Record("abc", {"a": "b"}, ("x",))) == 3 + 10 + 9


def test_labels_are_taken_up_to_the_bound_and_refused_above() -> None:
    most = {"k": "v" * (limits.LABELS_BYTES - 9)}
    limits.check_labels(most, "labels")
    with pytest.raises(InvalidArgumentError, match="labels: 1048577 bytes in all, the most is 1048576"):
        limits.check_labels({"k": most["k"] + "v"}, "labels")


def test_many_short_labels_are_too_much_as_well() -> None:
    with pytest.raises(InvalidArgumentError, match="the most is 1048576"):
        limits.check_labels({f"{number}": "" for number in range(100_000)}, "labels")


def test_what_the_kernel_does_not_take_is_refused() -> None:
    limits.check_process(("sleep", "1"), ("A=" + "x" * 2_000_000,), "exec")
    with pytest.raises(InvalidArgumentError, match="exec: command and environment: 2097169 bytes in all"):
        limits.check_process(("x" * limits.PROCESS_BYTES,), ("y",), "exec")


def test_a_record_that_is_too_large_names_its_longest_field() -> None:
    with pytest.raises(InvalidArgumentError, match=r"thing, most of it in mount points: .* the most is 100"):
        limits.check_record(Record("abc", {}, ("x" * 200,)), "thing", 100)
    limits.check_record(replace(ContainerSpec(name="a", image="b"), process=Process(cmd=("true",))), "container")


def test_long_names_are_refused() -> None:
    limits.check_name("x" * 255, "volume name")
    with pytest.raises(InvalidArgumentError, match=r"volume name xxx.*: 256 characters, the most is 255"):
        limits.check_name("x" * 256, "volume name")
