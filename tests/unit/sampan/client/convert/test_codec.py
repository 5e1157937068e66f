from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.api.runtime.v1 import containers_pb2, spec_pb2
from sampan.client.convert.codec import Codec, from_duration, from_timestamp, to_duration, to_timestamp
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import RestartPolicy


@dataclass(frozen=True)
class TooLittle:
    name: str


@dataclass(frozen=True)
class TooMuch:
    name: str
    maximum_retries: int
    delay: int


@dataclass(frozen=True)
class WrongType:
    name: str
    maximum_retries: str


@dataclass(frozen=True)
class NeverNone:
    id: str
    size_rw_bytes: int


@pytest.mark.parametrize(
    ("kind", "named"),
    [(TooLittle, "maximum_retries"), (TooMuch, "delay"), (WrongType, "maximum_retries")],
)
def test_a_field_that_nobody_converts_is_an_error_when_the_codec_is_made(kind: type, named: str) -> None:
    with pytest.raises(TypeError, match=named):
        Codec(kind, spec_pb2.RestartPolicy)


def test_a_value_that_may_be_left_out_on_one_side_alone_is_an_error() -> None:
    with pytest.raises(TypeError, match="leave it out"):
        Codec(NeverNone, containers_pb2.Container)


def test_a_message_within_needs_a_codec() -> None:
    @dataclass(frozen=True)
    class Outer:
        container: str
        restart_policy: RestartPolicy

    with pytest.raises(TypeError, match="no codec"):
        Codec(Outer, containers_pb2.UpdateContainerRequest, ignored=("resources",))


def test_an_ignored_field_that_is_not_there_is_an_error() -> None:
    with pytest.raises(TypeError, match="nothing"):
        Codec(RestartPolicy, spec_pb2.RestartPolicy, ignored=("nothing",))


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_keep_their_microseconds(aware: datetime) -> None:
    assert from_timestamp(to_timestamp(aware)) == aware
    assert to_timestamp(aware).ToDatetime(UTC) - aware == timedelta(0)


@given(st.integers(-(10**15), 10**15))
def test_durations_keep_their_nanoseconds(total_ns: int) -> None:
    message = to_duration(total_ns / 10**9)
    assert message.ToNanoseconds() == total_ns
    assert round(from_duration(message) * 10**9) == total_ns


@pytest.mark.parametrize("seconds", [315_576_000_001, -(2.0**63), float("inf"), float("nan")])
def test_a_time_that_no_duration_holds_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidArgumentError, match="is too long: the most is 315576000000 s"):
        to_duration(seconds)
