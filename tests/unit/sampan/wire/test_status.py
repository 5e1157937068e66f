import grpc
import pytest

from sampan import errors
from sampan.wire.status import INTERNAL, REASON_KEY, TABLE, from_rpc_error, wire_for


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
    assert wire_for(ValueError()) is INTERNAL


def test_an_answer_without_our_reason_is_understood_by_its_code() -> None:
    foreign = grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone")
    assert isinstance(from_rpc_error(foreign), errors.NotFoundError)


def test_a_bug_on_the_other_side_stays_what_it_is() -> None:
    bug = grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata(), "boom")
    assert from_rpc_error(bug) is bug


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
    assert isinstance(back, errors.UnavailableError)
    assert str(back).startswith("a service of the engine went away: see `sampan status`")
