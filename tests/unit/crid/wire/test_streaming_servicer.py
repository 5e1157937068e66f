import pytest

from crid.streaming.requests import AttachRequest, ExecRequest, PortForwardRequest, Request, StandardStreams
from crid.wire.streaming_servicer import Context, StreamingServicer
from sampan.api.cri.v1 import streaming_pb2 as pb
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError


class Urls:
    def __init__(self) -> None:
        self.asked: list[Request] = []

    def url(self, request: Request) -> str:
        self.asked.append(request)
        return "http://127.0.0.1:1/there"


class Targets:
    async def running_container(self, id: str) -> str:
        if id != "c":
            raise NotFoundError(f"container {id} is not there")
        return "c" * 64

    async def ready_sandbox(self, id: str) -> str:
        if id != "s":
            raise ConflictError(f"pod sandbox {id} is not ready")
        return "s" * 64


@pytest.fixture
def urls() -> Urls:
    return Urls()


@pytest.fixture
def servicer(urls: Urls) -> StreamingServicer:
    return StreamingServicer(urls, Targets())


CONTEXT: Context = None  # type: ignore[assignment]  # nothing here asks it


async def test_each_request_is_served_at_a_url_with_whole_ids(servicer: StreamingServicer, urls: Urls) -> None:
    streams = StandardStreams(stdin=True, stdout=True, tty=True)
    exec_ = pb.ExecRequest(container_id="c", cmd=["sh", "-i"], tty=True, stdin=True, stdout=True)
    assert (await servicer.Exec(exec_, CONTEXT)).url == "http://127.0.0.1:1/there"
    await servicer.Attach(pb.AttachRequest(container_id="c", tty=True, stdin=True, stdout=True), CONTEXT)
    await servicer.PortForward(pb.PortForwardRequest(pod_sandbox_id="s", port=[80, 443]), CONTEXT)
    assert urls.asked == [
        ExecRequest("c" * 64, ("sh", "-i"), streams),
        AttachRequest("c" * 64, streams),
        PortForwardRequest("s" * 64, (80, 443)),
    ]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (pb.ExecRequest(cmd=["ls"], stdout=True), "container_id is empty"),
        (pb.ExecRequest(container_id="c", stdout=True), "cmd is empty"),
        (pb.ExecRequest(container_id="c", cmd=["ls"]), "one of stdin, stdout, or stderr"),
        (pb.ExecRequest(container_id="c", cmd=["ls"], tty=True, stderr=True), "tty and stderr"),
    ],
)
async def test_bad_exec_is_refused(servicer: StreamingServicer, request_: pb.ExecRequest, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        await servicer.Exec(request_, CONTEXT)


@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_port_that_is_none_is_refused(servicer: StreamingServicer, port: int) -> None:
    with pytest.raises(InvalidArgumentError, match=f"port {port} is none"):
        await servicer.PortForward(pb.PortForwardRequest(pod_sandbox_id="s", port=[port]), CONTEXT)


async def test_what_cannot_be_streamed_to_gets_no_url(servicer: StreamingServicer, urls: Urls) -> None:
    with pytest.raises(NotFoundError):
        await servicer.Attach(pb.AttachRequest(container_id="x", stdout=True), CONTEXT)
    with pytest.raises(ConflictError):
        await servicer.PortForward(pb.PortForwardRequest(pod_sandbox_id="x"), CONTEXT)
    assert urls.asked == []
