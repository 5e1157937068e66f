"""POST /build in both its forms, /build/cancel and /build/prune."""

import asyncio
import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from sampan.build.progress import Vertex, VertexLog
from sampan.build.request import CacheOption, Export, SolveResponse, UsageRecord
from sampan.errors import InvalidArgumentError, NotFoundError, SampanError
from sampan.oci.digest import Digest
from tests.unit.dockerapi.support import Api

IMAGE = "sha256:" + "1234567890ab" + "0" * 52
FROM = Digest("sha256:" + "a" * 64)
RUN = Digest("sha256:" + "b" * 64)
INTERNAL = Digest("sha256:" + "c" * 64)
TAR = {"Content-Type": "application/x-tar"}


def built(api: Api) -> None:
    api.builder.answer = SolveResponse({"containerimage.config.digest": IMAGE})


def steps() -> list[list[Any]]:
    return [
        [Vertex(INTERNAL, "[internal] load build definition from Dockerfile", started_ns=1, completed_ns=2)],
        [Vertex(FROM, "[1/2] FROM docker.io/library/busybox"), Vertex(RUN, "[2/2] RUN echo hello", (FROM,))],
        [Vertex(FROM, "[1/2] FROM docker.io/library/busybox", started_ns=3, completed_ns=4, cached=True)],
        [Vertex(RUN, "[2/2] RUN echo hello", (FROM,), started_ns=5), VertexLog(RUN, 1, b"hello\n", 6)],
        [VertexLog(INTERNAL, 1, b"not shown\n", 6), Vertex(RUN, "[2/2] RUN echo hello", (FROM,), 5, 7)],
    ]


async def test_a_context_is_sent_and_text_comes_back(api: Api) -> None:
    built(api)
    api.builder.updates = steps()
    answer = await api.post("/build?t=one&t=two:3&dockerfile=D&nocache=1&pull=1", data=b"tar" * 1000, headers=TAR)

    assert answer.status == 200
    assert answer.body.endswith(b"\r\n")
    assert [line.get("stream") for line in answer.lines if " ---> " not in line.get("stream", "")] == [
        "Step 1/2 : FROM busybox\n",
        "Step 2/2 : RUN echo hello\n",
        "hello\n",
        f"Removing intermediate container {str(RUN)[7:19]}\n",
        None,
        "Successfully built 1234567890ab\n",
        "Successfully tagged one:latest\n",
        "Successfully tagged two:3\n",
    ]
    assert {"aux": {"ID": IMAGE}} in answer.lines
    (request,) = api.builder.solved
    assert request.session == "session1"
    attributes = dict(request.frontend_attributes)
    assert attributes.pop("context").startswith("http://buildkit-session/")
    assert attributes == {"filename": "D", "image-resolve-mode": "pull", "no-cache": "", "sampan.plan": ""}
    assert request.exports == (Export("moby", {"name": "docker.io/library/one:latest,docker.io/library/two:3"}),)
    assert api.builder.uploaded == [b"tar" * 1000]


async def test_options_become_attributes(api: Api) -> None:
    built(api)
    query = {
        "buildargs": json.dumps({"A": "1", "UNSET": None, "BUILDKIT_INLINE_CACHE": "1"}),
        "labels": json.dumps({"l": "v"}),
        "cachefrom": json.dumps(["one", "two"]),
        "ulimits": json.dumps([{"Name": "nofile", "Soft": 10, "Hard": 20}]),
        "networkmode": "host",
        "target": "t",
        "platform": "linux/arm64",
        "shmsize": "1048576",
        "cgroupparent": "p",
        "extrahosts": "six=[::1]",
        "rm": "1",
        "forcerm": "1",
        "memory": "67108864",
        "cpuquota": "0",
        "cpusetcpus": "0",
        "securityopt": "",
    }
    path = "/build?" + "&".join(f"{name}={quote(value)}" for name, value in query.items())
    assert (await api.post(path, data=b"x", headers=TAR)).status == 200
    (request,) = api.builder.solved
    attributes = dict(request.frontend_attributes)
    del attributes["context"]
    assert attributes == {
        "image-resolve-mode": "default",
        "build-arg:A": "1",
        "build-arg:BUILDKIT_INLINE_CACHE": "1",
        "label:l": "v",
        "ulimit": "nofile=10:20",
        "force-network-mode": "host",
        "target": "t",
        "platform": "linux/arm64",
        "shm-size": "1048576",
        "cgroup-parent": "p",
        "add-hosts": "six=::1",
        "memory": "67108864",
        "cpusetcpus": "0",
        "sampan.plan": "",
    }
    assert request.entitlements == {"network.host"}
    assert request.cache_imports == (CacheOption("registry", {"ref": "one"}), CacheOption("registry", {"ref": "two"}))
    assert request.cache_exports == (CacheOption("inline"),)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("squash=1", "squash is only supported with experimental mode"),
        ("networkmode=mine&version=2&session=s", 'network mode "mine" not supported by buildkit'),
        ("networkmode=ns:/proc/1/ns/net", 'network mode "ns:/proc/1/ns/net" not supported by buildkit'),
        ("buildargs=nonsense", "error reading build args"),
        ("buildargs=[1]", "error reading build args: expected an object of strings"),
        ("labels=3", "error reading labels: expected an object of strings"),
        ("ulimits={}", "error reading ulimit settings: expected a list of objects"),
        ("securityopt=seccomp%3Dunconfined", "does not support setting security options on build"),
        ("cachefrom=3", "error reading cachefrom: expected a list of strings"),
        ("t=UPPER", "invalid reference format"),
        ("t=a@sha256:" + "0" * 64, "build tag cannot contain a digest"),
        ("isolation=hyperv", "unsupported isolation"),
        ("extrahosts=one", 'bad format for add-host: "one"'),
        ("extrahosts=db:ten", 'invalid IP address in add-host: "ten"'),
        ("shmsize=x", "invalid value for shmsize"),
        ("outputs=[{},{}]", "multiple outputs not supported"),
        ("version=2&remote=client-session", "a build with BuildKit needs a session"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(api: Api, query: str, message: str) -> None:
    answer = await api.post(f"/build?{query}", data=b"x", headers=TAR)
    assert (answer.status, api.builder.solved) == (400, [])
    assert message in answer.message


async def test_a_network_of_users_is_the_classic_builder_s(api: Api) -> None:
    built(api)
    await api.post("/build?networkmode=mine", data=b"x", headers=TAR)
    (request,) = api.builder.solved
    assert request.frontend_attributes["network-mode"] == "mine"
    assert request.entitlements == frozenset()


async def test_credentials_are_those_of_the_header(api: Api) -> None:
    built(api)
    sent = {
        "registry.example": {"username": "u", "password": "p"},
        "https://other.example": {"identitytoken": "t"},
        "https://index.docker.io/v1/": {"username": "hub", "password": "h"},
        "none.example": {"auth": ""},
    }
    header = base64.urlsafe_b64encode(json.dumps(sent).encode()).decode()
    await api.post("/build", data=b"x", headers={**TAR, "X-Registry-Config": header})
    find = api.builder.served[0].credentials
    assert find is not None
    registries = ("registry.example", "other.example", "docker.io", "none.example", "unknown.example")
    assert [await find(registry) for registry in registries] == [
        ("u", "p"), ("<token>", "t"), ("hub", "h"), None, None
    ]  # fmt: skip
    answer = await api.post(
        "/build", data=b"x", headers={**TAR, "X-Registry-Config": base64.b64encode(b"null").decode()}
    )
    assert answer.status == 200

    refused = await api.post("/build", data=b"x", headers={**TAR, "X-Registry-Config": "%%"})
    assert refused.status == 400
    assert refused.message.startswith("invalid X-Registry-Config header: expected JSON in base64url")


async def test_a_remote_context_needs_no_body(api: Api) -> None:
    built(api)
    assert (await api.post("/build?remote=https://example/repository.git")).status == 200
    assert api.builder.solved[0].frontend_attributes["context"] == "https://example/repository.git"
    assert not api.builder.served[0].uploads


async def test_quiet_says_the_image_alone(api: Api) -> None:
    built(api)
    api.builder.updates = steps()
    answer = await api.post("/build?q=1", data=b"x", headers=TAR)
    assert answer.lines == [{"stream": f"{IMAGE}\n"}]


async def test_a_failure_before_the_first_step_is_an_http_error(api: Api) -> None:
    api.builder.answer = NotFoundError("failed to read dockerfile: open Dockerfile: no such file or directory")
    answer = await api.post("/build", data=b"x", headers=TAR)
    assert (answer.status, answer.message) == (404, str(api.builder.answer))


async def test_a_process_that_fails_says_its_exit_code(api: Api) -> None:
    api.builder.updates = steps()
    api.builder.answer = SampanError(
        'failed to solve: process "/bin/sh -c exit 7" did not complete successfully: exit code: 7'
    )
    answer = await api.post("/build", data=b"x", headers=TAR)
    message = "The command '/bin/sh -c exit 7' returned a non-zero code: 7"
    assert answer.lines[-1] == {"errorDetail": {"code": 7, "message": message}, "error": message}
    assert {"stream": "hello\n"} in answer.lines


@pytest.mark.parametrize(
    ("step", "message", "words", "code"),
    [
        (
            "RUN make",
            'process "/bin/sh -c make" did not complete successfully: cannot allocate memory',
            "The command '/bin/sh -c make' returned a non-zero code: 137",
            137,
        ),
        (
            "COPY a /b",
            'failed to compute cache key: failed to calculate checksum of ref 1: "/a": not found',
            "COPY failed: file not found in build context or excluded by .dockerignore: stat a: file does not exist",
            None,
        ),
        (
            "COPY --from=x /a /b",
            'failed to compute cache key: failed to calculate checksum of ref 1: "/a": not found',
            "COPY failed: stat a: file does not exist",
            None,
        ),
        ("RUN --mount=target=/a make", 'failed to calculate checksum of ref 1: "/a": not found', None, None),
    ],
)
async def test_failures_are_told_in_the_classic_builder_s_words(
    api: Api, step: str, message: str, words: str | None, code: int | None
) -> None:
    api.builder.updates = [
        [Vertex(RUN, f"[2/2] {step}", started_ns=1)],
        [Vertex(RUN, f"[2/2] {step}", started_ns=1, completed_ns=2, error=message)],
    ]
    api.builder.answer = SampanError(message)
    last = (await api.post("/build", data=b"x", headers=TAR)).lines[-1]
    detail: dict[str, object] = {"message": words or message} | ({"code": code} if code else {})
    assert last == {"errorDetail": detail, "error": words or message}
    plain = (await api.post("/build?version=2&session=s")).lines[-1]
    assert plain == {"errorDetail": {"message": message}, "error": message}


async def test_a_client_of_buildkit_gets_traces(api: Api) -> None:
    built(api)
    api.builder.updates = steps()
    answer = await api.post("/build?version=2&session=s&buildid=b&remote=client-session")
    (request,) = api.builder.solved
    assert request.session == "s"
    assert "context" not in request.frontend_attributes
    traces = [base64.b64decode(line["aux"]) for line in answer.lines if line["id"] == "moby.buildkit.trace"]
    assert traces == [f"{request.ref}:{len(some)}".encode() for some in api.builder.updates]
    assert answer.lines[-1] == {"id": "moby.image.id", "aux": {"ID": IMAGE}}


async def test_steps_are_counted_through_all_stages(api: Api) -> None:
    built(api)
    base = "FROM docker.io/library/busybox:1@sha256:" + "0" * 64
    api.builder.updates = [
        [
            Vertex(FROM, f"[base 1/2] {base}"),
            Vertex(RUN, "[base 2/2] RUN make", (FROM,)),
            Vertex(INTERNAL, "[stage-1 1/1] COPY --from=base /made /", (RUN,)),
        ],
        [Vertex(FROM, f"[base 1/2] {base}", started_ns=1), Vertex(RUN, "[base 2/2] RUN make", (FROM,), started_ns=2)],
        [Vertex(INTERNAL, "[stage-1 1/1] COPY --from=base /made /", (RUN,), started_ns=3)],
    ]
    answer = await api.post("/build", data=b"x", headers=TAR)
    shown = [line["stream"] for line in answer.lines if "stream" in line]
    assert [line for line in shown if line.startswith("Step")] == [
        "Step 1/3 : FROM busybox:1\n",
        "Step 2/3 : RUN make\n",
        "Step 3/3 : COPY --from=base /made /\n",
    ]


async def test_a_step_of_two_vertexes_is_shown_once(api: Api) -> None:
    built(api)
    name = "[2/2] ADD http://example.test/file /"
    api.builder.updates = [
        [Vertex(FROM, name, started_ns=1, completed_ns=2)],
        [Vertex(RUN, name, (FROM,), started_ns=3, completed_ns=4, cached=True)],
    ]
    answer = await api.post("/build", data=b"x", headers=TAR)
    shown = [line["stream"] for line in answer.lines if "stream" in line]
    assert [line for line in shown if line.startswith("Step")] == ["Step 1/1 : ADD http://example.test/file /\n"]


async def test_a_context_can_come_with_a_request_of_its_own(api: Api) -> None:
    built(api)
    uploading = asyncio.create_task(api.post("/build?buildid=upload-request:b", data=b"context", headers=TAR))
    answer = await api.post("/build?version=2&session=s&buildid=b&remote=upload-request")
    assert (answer.status, (await uploading).status) == (200, 200)
    assert api.builder.uploaded == [b"context"]
    (key,) = api.builder.served[0].uploads
    assert api.builder.solved[0].frontend_attributes["context"] == f"http://buildkit-session/{key}?session=session1"


@pytest.mark.parametrize(("session", "used"), [("", "session1"), ("&session=s", "s")])
async def test_a_client_of_buildkit_can_send_the_context_as_the_body(api: Api, session: str, used: str) -> None:
    built(api)
    answer = await api.post(f"/build?version=2{session}", data=b"context", headers=TAR)
    assert answer.status == 200
    assert api.builder.uploaded == [b"context"]
    (key,) = api.builder.served[0].uploads
    (request,) = api.builder.solved
    assert request.session == used
    assert request.frontend_attributes["context"] == f"http://buildkit-session/{key}?session=session1"


async def test_a_context_elsewhere_needs_no_session_of_the_client_s(api: Api) -> None:
    built(api)
    await api.post("/build?version=2&remote=http://example.test/context.tar")
    (request,) = api.builder.solved
    assert request.session == "session1"
    assert request.frontend_attributes["context"] == "http://example.test/context.tar"


async def test_a_client_of_buildkit_without_buildx_is_told_the_image_where_it_looks(api: Api) -> None:
    built(api)
    path = "/build?version=2&session=s&remote=client-session&ulimits=null&cachefrom=null&buildargs=null"
    loud, quiet = await api.post(path), await api.post(f"{path}&q=1")
    assert loud.status == 200
    assert not any("stream" in line for line in loud.lines)
    assert quiet.lines[-1] == {"stream": f"{quiet.lines[-2]['aux']['ID']}\n"}


async def test_a_build_can_be_cancelled_by_name(api: Api) -> None:
    api.builder.go_on.clear()
    building = asyncio.create_task(api.post("/build?version=2&session=s&buildid=b&remote=client-session"))
    await api.builder.building.wait()
    again = await api.post("/build?version=2&session=s&buildid=b&remote=client-session")
    assert (again.status, again.message) == (409, "build b is under way")
    assert (await api.post("/build/cancel?id=b")).status == 200
    with pytest.raises(Exception, match="disconnected"):
        await building
    assert api.builder.cancelled == 1
    assert (await api.post("/build/cancel?id=b")).status == 200
    assert (await api.post("/build/cancel")).status == 400


async def test_who_cancels_a_build_is_told_when_nothing_is_left_of_it(api: Api) -> None:
    api.builder.go_on.clear()
    api.builder.cleared.clear()
    building = asyncio.create_task(api.post("/build?version=2&session=s&buildid=b&remote=client-session"))
    await api.builder.building.wait()
    cancelling = asyncio.create_task(api.post("/build/cancel?id=b"))
    await api.builder.ended.wait()
    assert (await api.get("/_ping")).status == 200
    assert not cancelling.done()
    assert not building.done()
    api.builder.cleared.set()
    assert (await cancelling).status == 200
    with pytest.raises(Exception, match="disconnected"):
        await building


async def test_a_client_that_leaves_ends_its_build(api: Api) -> None:
    api.builder.go_on.clear()
    api.builder.updates = steps()
    async with api.raw() as (reader, writer):
        writer.write(
            b"POST /build HTTP/1.1\r\nHost: d\r\nContent-Type: application/x-tar\r\nContent-Length: 1\r\n\r\nx"
        )
        await reader.readuntil(b"hello")
    async with asyncio.timeout(60):
        await api.builder.ended.wait()
    assert api.builder.cancelled == 1


async def test_prune_takes_filters_and_limits(api: Api) -> None:
    api.builder.records = [UsageRecord("one", 100), UsageRecord("two", 20)]
    filters = quote(json.dumps({"type": ["regular"], "inuse": ["0"], "until": ["24h"]}))
    answer = await api.post(f"/build/prune?all=1&keep-storage=5&filters={filters}")
    assert answer.json == {"CachesDeleted": ["one", "two"], "SpaceReclaimed": 120}
    (options,) = api.builder.pruned
    assert options.filters == ('type=="regular",inuse!=true',)
    assert (options.all, options.reserved_bytes, options.keep_duration_ns) == (True, 5, 24 * 3600 * 10**9)

    labelled = await api.post(f"/build/prune?filters={quote(json.dumps({'label': ['a=b'], 'label!': ['c']}))}")
    assert (labelled.status, api.builder.pruned[-1].filters) == (200, ())

    refused = await api.post(f"/build/prune?filters={quote(json.dumps({'colour': ['red']}))}")
    assert (refused.status, refused.message) == (400, "invalid filter 'colour'")


async def test_errors_of_the_builder_keep_their_kind(api: Api) -> None:
    api.builder.answer = InvalidArgumentError("the Dockerfile cannot be empty")
    answer = await api.post("/build", data=b"x", headers=TAR)
    assert (answer.status, answer.message) == (400, "the Dockerfile cannot be empty")
