import base64
import json

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage

from buildd.build.protocol import FailedStep, LocatedError
from buildd.protocol import ProcessError, SourceFile
from buildd.wire.services.errors import ReturnedError, foreign_errors
from sampan.api.buildkit.solver.v1 import ops_pb2
from sampan.api.rpc.status_pb2 import Status
from sampan.errors import NotFoundError, SampanError, StartError, UnimplementedError
from sampan.oci.digest import Digest
from sampan.wire.status import ForeignError, wire_for

SOURCE = "github.com/moby/buildkit/errdefs.Source+json"


def raised(error: SampanError) -> ForeignError:
    with pytest.raises(ForeignError) as caught, foreign_errors():
        raise error
    return caught.value


def details(error: ForeignError) -> dict[str, dict[str, object]]:
    return {each.type_url: json.loads(each.value) for each in Status.FromString(error.details).details}


def test_a_failed_step_travels_with_its_vertex_and_the_lines_that_are_to_blame() -> None:
    file = SourceFile("Dockerfile", b"FROM a\nRUN false\n")
    error = raised(LocatedError(ProcessError("exit code: 1", 1), file, ((2, 2),), Digest.of(b"")))
    assert (error.code, str(error)) == (grpc.StatusCode.UNKNOWN, "exit code: 1")
    status = Status.FromString(error.details)
    assert (status.code, status.message) == (2, "exit code: 1")
    assert details(error) == {
        "github.com/moby/buildkit/gatewayapi.ExitMessage+json": {"Code": 1},
        "github.com/moby/buildkit/errdefs.Vertex+json": {"digest": Digest.of(b"")},
        "github.com/moby/buildkit/errdefs.Source+json": {
            "info": {
                "filename": "Dockerfile",
                "data": base64.b64encode(file.data).decode(),
                "language": "Dockerfile",
            },
            "ranges": [{"start": {"line": 2}, "end": {"line": 2}}],
        },
    }


def test_a_process_that_never_was_has_no_exit_code() -> None:
    error = ProcessError("unable to find user web", 1)
    error.__cause__ = StartError("unable to find user web")
    assert list(details(raised(LocatedError(error, vertex=Digest.of(b""))))) == [
        "github.com/moby/buildkit/errdefs.Vertex+json"
    ]


def test_lines_that_led_to_the_one_that_is_to_blame_travel_before_it() -> None:
    file = SourceFile("Dockerfile", b"FROM a\n" * 9)
    error = LocatedError(LocatedError(SampanError("circle"), file, ((2, 2),)), file, ((7, 8),))
    found = Status.FromString(raised(error).details).details
    assert [each.type_url for each in found] == [SOURCE, SOURCE]
    assert [json.loads(each.value)["ranges"][0]["start"]["line"] for each in found] == [2, 7]


def test_what_is_left_of_a_step_travels_with_its_operation_for_clients_that_look_into_it() -> None:
    error = LocatedError(ProcessError("exit code: 1", 1), vertex=Digest.of(b""))
    mounts = [ops_pb2.Mount(dest="/", output=0), ops_pb2.Mount(input=-1, dest="/tmp")]
    op = ops_pb2.Op(exec=ops_pb2.ExecOp(meta=ops_pb2.Meta(args=["false"]), mounts=mounts))
    error.step = FailedStep(op.SerializeToString(), ("a", ""), ("b", ""))
    assert details(raised(error))["github.com/moby/buildkit/errdefs.Solve+json"] == {
        "inputIDs": ["a", ""],
        "mountIDs": ["b", ""],
        "op": {"exec": {"meta": {"args": ["false"]}, "mounts": [{"dest": "/"}, {"input": "-1", "dest": "/tmp"}]}},
    }


def test_of_a_long_file_only_what_is_around_the_lines_travels_under_its_numbers() -> None:
    lines = [b"RUN echo %d %s" % (number, b"x" * 200) for number in range(1, 1001)]
    error = raised(LocatedError(NotFoundError("no"), SourceFile("Dockerfile", b"\n".join(lines)), ((500, 500),)))
    assert len(error.details) < 12 << 10
    info = details(error)["github.com/moby/buildkit/errdefs.Source+json"]["info"]
    assert isinstance(info, dict)
    found = base64.b64decode(info["data"]).split(b"\n")
    assert found[495:504] == lines[495:504]
    assert found[0] == b""


def test_lines_too_far_down_a_file_do_not_travel() -> None:
    few = SourceFile("Dockerfile", b"\n" * 5000 + b"RUN false\n" + b"RUN true\n" * 100_000)
    info = details(raised(LocatedError(NotFoundError("no"), few, ((5001, 5001),))))[SOURCE]["info"]
    assert isinstance(info, dict)
    assert base64.b64decode(info["data"]).split(b"\n")[5000] == b"RUN false"
    many = SourceFile("Dockerfile", b"RUN true\n" * 1_000_000)
    assert SOURCE not in details(raised(LocatedError(NotFoundError("no"), many, ((900_000, 900_000),), Digest.of(b""))))
    one = SourceFile("Dockerfile", b"RUN " + b"x" * 100_000)
    assert SOURCE not in details(raised(LocatedError(NotFoundError("no"), one, ((1, 1),), Digest.of(b""))))


def test_an_error_travels_whatever_is_in_it() -> None:
    command = "x\N{EURO SIGN}" * 100_000
    words = f'process "{command}" did not complete successfully: exit code: 7'
    error: SampanError = ProcessError(words, 7)
    for number in range(5):
        file = SourceFile(f"{number}" * 10_000, b"RUN\n" * 1000)
        error = LocatedError(error, file, [(line, line) for line in range(1, 1000)], Digest.of(b""))
    told = raised(error)
    assert str(told).startswith('process "x\N{EURO SIGN}x')
    assert str(told).endswith("did not complete successfully: exit code: 7")
    assert Status.FromString(told.details).message == str(told)
    assert len(str(told).encode()) < 4096
    assert len(told.details) < 24 << 10
    returned = Status(code=2, message=words, details=[AnyMessage(type_url="x", value=b"y" * 1_000_000)])
    given_up = raised(ReturnedError(returned))
    assert str(given_up) == str(told)
    assert len(given_up.details) < 24 << 10


def test_clients_of_ours_see_the_reason_and_buildkit_s_see_no_code() -> None:
    error = raised(NotFoundError("gone"))
    assert (wire_for(error).reason, wire_for(error).code) == ("not_found", grpc.StatusCode.UNKNOWN)
    assert error.details == b""
    assert raised(UnimplementedError("not here")).code is grpc.StatusCode.UNIMPLEMENTED


def test_what_a_client_has_returned_goes_back_as_it_came() -> None:
    status = Status(code=2, message="mine", details=[AnyMessage(type_url="x", value=b"y")])
    error = raised(ReturnedError(status))
    assert (error.code, str(error)) == (grpc.StatusCode.UNKNOWN, "mine")
    assert Status.FromString(error.details) == status
    assert raised(ReturnedError(Status())).code is grpc.StatusCode.UNKNOWN
