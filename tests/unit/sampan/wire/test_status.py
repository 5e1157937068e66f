import errno

import grpc
import pytest

from sampan import errors
from sampan.wire.status import REASON_KEY, TABLE, explained, from_rpc_error, wire_for


def sent(error: errors.SampanError) -> grpc.aio.AioRpcError:
    """What a client gets when a service raised ``error``."""
    wire = wire_for(error)
    trailing = grpc.aio.Metadata((REASON_KEY, wire.reason))
    return grpc.aio.AioRpcError(wire.code, grpc.aio.Metadata(), trailing, str(error))


@pytest.mark.parametrize("kind", TABLE)
def test_every_kind_of_error_comes_back_as_it_was_raised(kind: type[errors.SampanError]) -> None:
    back = from_rpc_error(sent(kind("why")))
    assert type(back) is kind
    assert str(back) == "why"


def test_reasons_are_unique() -> None:
    assert len({wire.reason for wire in TABLE.values()}) == len(TABLE)


def test_a_subclass_without_a_row_travels_as_its_parent() -> None:
    class Special(errors.NotFoundError):
        pass

    assert wire_for(Special()) is TABLE[errors.NotFoundError]


def test_a_stranger_is_a_bug() -> None:
    assert wire_for(ValueError()) is TABLE[errors.InternalError]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("can't start new thread"), "resource temporarily unavailable"),  # Thread.start
        (BlockingIOError(errno.EAGAIN, "again"), "resource temporarily unavailable"),  # fork(2)
        (OSError(errno.ENOMEM, "memory"), "cannot allocate memory"),
        (MemoryError(), "cannot allocate memory"),
    ],
)
def test_a_machine_without_room_for_one_more_process_is_nobody_s_bug(error: Exception, words: str) -> None:
    told = explained(error)
    assert type(told) is errors.ResourceExhaustedError
    assert str(told).endswith(words)


@pytest.mark.parametrize("error", [RuntimeError("cannot schedule new futures"), OSError(errno.EIO, "io"), ValueError()])
def test_any_other_error_stays_a_bug(error: Exception) -> None:
    assert explained(error) is error


def test_an_answer_without_our_reason_is_understood_by_its_code() -> None:
    foreign = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone")
    assert isinstance(from_rpc_error(foreign), errors.NotFoundError)


@pytest.mark.parametrize("code", grpc.StatusCode)
def test_whatever_a_call_ends_with_is_an_error_of_ours(code: grpc.StatusCode) -> None:
    ended = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "boom")
    assert isinstance(from_rpc_error(ended), errors.SampanError)


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN])
def test_a_failure_on_the_other_side_that_nobody_expected_is_a_bug_there(code: grpc.StatusCode) -> None:
    bug = from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), "boom"))
    assert type(bug) is errors.InternalError
    assert str(bug) == "boom"


def test_a_service_that_answers_too_late_is_not_taken_for_one_that_has_gone() -> None:
    late = grpc.aio.AioRpcError(
        grpc.StatusCode.DEADLINE_EXCEEDED, grpc.aio.Metadata(), grpc.aio.Metadata(), "Deadline Exceeded"
    )
    assert type(from_rpc_error(late)) is errors.UnavailableError


def test_what_a_service_calls_unavailable_is_no_broken_connection() -> None:
    assert type(from_rpc_error(sent(errors.UnavailableError("stopping")))) is errors.UnavailableError


@pytest.mark.parametrize(
    ("kind", "http", "exit_code"),
    [
        (errors.NotFoundError, 404, 1),
        (errors.ConflictError, 409, 1),
        (errors.NotModifiedError, 304, 1),
        (errors.StartError, 500, 125),
        (errors.CommandNotFoundError, 400, 127),
        (errors.CommandNotExecutableError, 400, 126),
    ],
)
def test_statuses_and_exit_codes_are_docker_s(kind: type[errors.SampanError], http: int, exit_code: int) -> None:
    wire = wire_for(kind())
    assert (wire.http, wire.exit_code) == (http, exit_code)


def test_a_connection_that_is_lost_is_said_in_words_for_users() -> None:
    lost = grpc.aio.AioRpcError(
        grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "Stream removed (Socket closed)"
    )
    back = from_rpc_error(lost)
    assert type(back) is errors.ServiceGoneError
    assert str(back).startswith("a service of the engine went away: see `sampan status`")
