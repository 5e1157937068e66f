"""What a call's messages say: the object, and what was asked for."""

import pytest

from dockerapi.wire.messages import answer_of, converses, name_of, object_of, request_of
from sampan.api.buildkit.control.v1 import control_pb2
from sampan.api.buildkit.gateway.v1 import gateway_pb2
from sampan.api.image.v1 import images_pb2
from sampan.api.runtime.v1 import containers_pb2, execs_pb2, networks_pb2, spec_pb2, volumes_pb2

CONTAINERS = "/sampan.runtime.v1.Containers"


@pytest.mark.parametrize(
    ("path", "request_", "name"),
    [
        (f"{CONTAINERS}/Stop", containers_pb2.StopContainerRequest(container="web"), "web"),
        (f"{CONTAINERS}/Create", containers_pb2.CreateContainerRequest(spec=spec_pb2.ContainerSpec(name="db")), "db"),
        ("/sampan.runtime.v1.Execs/Get", execs_pb2.GetExecRequest(id="e1"), "e1"),
        ("/sampan.runtime.v1.Networks/Remove", networks_pb2.RemoveNetworkRequest(network="n"), "n"),
        ("/sampan.runtime.v1.Volumes/Remove", volumes_pb2.RemoveVolumeRequest(name="v"), "v"),
        ("/sampan.image.v1.Images/Tag", images_pb2.TagRequest(image="a", reference="b"), "a"),
        (f"{CONTAINERS}/List", containers_pb2.ListContainersRequest(), ""),
    ],
)
def test_object_is_what_the_request_names(
    path: str, request_: "containers_pb2.StopContainerRequest", name: str
) -> None:
    assert object_of(request_of(path, request_.SerializeToString())) == name


def test_what_was_made_is_named_by_the_answer() -> None:
    answer = containers_pb2.CreateContainerResponse(id="abc")
    assert object_of(answer_of(f"{CONTAINERS}/Create", answer.SerializeToString())) == "abc"


def test_credentials_and_content_are_left_out() -> None:
    push = images_pb2.PushRequest(reference="r", credentials=images_pb2.Credentials(password="hunter2"))
    assert request_of("/sampan.image.v1.Images/Push", push.SerializeToString()) == {"reference": "r"}
    solve = control_pb2.SolveRequest(Ref="x", Frontend="dockerfile.v0")
    assert request_of("/moby.buildkit.v1.Control/Solve", solve.SerializeToString())["Ref"] == "x"
    getattr(solve.Definition, "def").append(b"RUN hunter2")
    solve.FrontendAttrs["build-arg:A"] = "b"
    assert request_of("/moby.buildkit.v1.Control/Solve", solve.SerializeToString()) == {
        "Ref": "x", "Frontend": "dockerfile.v0", "FrontendAttrs": {"build-arg:A": "b"},
    }  # fmt: skip
    frontend = gateway_pb2.SolveRequest(Frontend="dockerfile.v0", FrontendOpt={"build-arg:A": "hunter2"})
    assert request_of("/moby.buildkit.v1.frontend.LLBBridge/Solve", frontend.SerializeToString()) == {
        "Frontend": "dockerfile.v0"
    }
    load = images_pb2.LoadRequest(chunk=b"tar")
    assert request_of("/sampan.image.v1.Images/Load", load.SerializeToString()) == {}


@pytest.mark.parametrize("path", ["/nobody.Knows/It", "/sampan.runtime.v1.Containers/Fly", "", "x", "//"])
def test_what_nobody_knows_says_nothing(path: str) -> None:
    assert request_of(path, b"\x0a\x01a") == {}
    assert not converses(path)


def test_rubbish_says_nothing() -> None:
    assert request_of(f"{CONTAINERS}/Stop", b"\xff\xff\xff") == {}


def test_conversations_are_those_with_streams_both_ways() -> None:
    assert converses(f"{CONTAINERS}/Attach")
    assert not converses(f"{CONTAINERS}/Logs")


def test_what_is_made_goes_by_the_name_that_the_answer_gives_it() -> None:
    asked = {"spec": {"name": "web", "image": "busybox"}}
    assert name_of(f"{CONTAINERS}/Create", asked, {"container": "abc"}) == "abc"
    assert name_of(f"{CONTAINERS}/Create", asked, {}) == "busybox"  # refused: nothing was made
    assert name_of(f"{CONTAINERS}/Start", {"container": "web"}, {"container": "abc"}) == "web"
