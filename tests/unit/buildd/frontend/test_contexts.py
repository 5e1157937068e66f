"""Where files come from: the build context, the Dockerfile in it, named contexts and inputs."""

import json
from base64 import b64encode

import pytest

from buildd.llb.ops import Copy, FileOp, Node, SourceOp
from sampan.dockerfile.source import DockerfileError
from sampan.errors import InvalidArgumentError, NotFoundError
from tests.fakes.build_bridge import image_config
from tests.unit.buildd.frontend.building import build

_DIGEST = f"sha256:{'a' * 64}"


def test_the_dockerfile_is_asked_for_with_its_ignore_file() -> None:
    files = {"local://dockerfile": {"d/Dockerfile": b"FROM alpine\nCOPY . /\n", "d/Dockerfile.dockerignore": b"x\n"}}
    built = build("", {"filename": "d/Dockerfile"}, sources=files, ignore="y\n")
    op = built.bridge.solved[0].op
    assert isinstance(op, SourceOp)
    assert json.loads(op.attrs["local.followpaths"]) == ["d/Dockerfile", "d/Dockerfile.dockerignore", "d/dockerfile"]
    assert json.loads(built.source("local://context")["local.excludepatterns"]) == ["x"]
    assert len(built.bridge.solved) == 1


def test_a_dockerfile_in_lower_case_is_found() -> None:
    assert build("", sources={"local://dockerfile": {"dockerfile": b"FROM alpine\nRUN x\n"}}).run()


def test_a_dockerfile_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFoundError, match="failed to read dockerfile: open D: no such file or directory"):
        build("FROM alpine\n", {"filename": "D"})


def test_a_dockerfile_that_is_too_large_is_named() -> None:
    words = "^failed to read dockerfile: Dockerfile exceeds maximum allowed size of 16777216 bytes$"
    with pytest.raises(InvalidArgumentError, match=words):
        build("#" * ((16 << 20) + 1))


def test_a_bad_pattern_is_named_with_its_file() -> None:
    with pytest.raises(InvalidArgumentError, match=r'failed parsing .dockerignore: invalid pattern "a\["'):
        build("FROM alpine\n", ignore="ok\na[\n")


def test_a_repository_is_context_and_dockerfile_in_one() -> None:
    source = "git://example.test/r.git#main:sub"
    files = {source: {"Dockerfile": b"FROM alpine\nCOPY a /\n"}}
    built = build("", {"context": "https://example.test/r.git#main:sub"}, sources=files)
    assert "local://dockerfile" not in [node.op.identifier for node in built.nodes if isinstance(node.op, SourceOp)]
    assert built.source(source)["git.fullurl"] == "https://example.test/r.git"
    assert "[internal] load git source https://example.test/r.git#main:sub" in built.names


def test_a_url_leads_to_an_archive() -> None:
    url = "https://example.test/context"
    files = {
        url: {"context": b"\x1f\x8b\x08more"},
        "[internal] unpack remote build context": {"Dockerfile": b"FROM alpine\nCOPY a /\n"},
    }
    built = build("", {"context": url}, sources=files)
    unpacked = next(node.op for node in built.nodes if isinstance(node.op, FileOp))
    assert unpacked.actions[0].action == Copy("/context", "/", attempt_unpack=True)


def test_what_says_how_to_build_is_left_out_of_an_upload_that_ignores_it() -> None:
    url = "http://buildkit-session/key"
    files = {
        url: {"context": b"\x1f\x8b\x08more"},
        "[internal] unpack remote build context": {
            "Dockerfile": b"FROM alpine\nCOPY . /\n",
            ".dockerignore": b"Docker*\n",
        },
    }
    assert "[internal] leave out Dockerfile" in build("", {"context": url}, sources=files).names
    assert "[internal] leave out .dockerignore" not in build("", {"context": url}, sources=files).names


def test_a_url_leads_to_the_dockerfile_itself() -> None:
    url = "https://example.test/df"
    assert build("", {"context": url}, sources={url: {"context": b"FROM alpine\nRUN x\n"}}).run()


def test_a_directory_of_a_remote_context_becomes_its_root() -> None:
    source = "git://example.test/r.git"
    files = {source: {"Dockerfile": b"FROM alpine\nCOPY a /\n"}}
    built = build("", {"context": "https://example.test/r.git", "contextsubdir": "part"}, sources=files)
    assert "[internal] select a directory" in built.names


def test_inputs_take_the_place_of_directories() -> None:
    edge = Node(SourceOp("local://given")).output()
    built = build("FROM alpine\nCOPY a /\n", inputs={"context": edge})
    assert edge.node in built.nodes


def test_another_session_gives_a_directory() -> None:
    built = build("FROM alpine\nCOPY a /\n", {"local-sessionid:context": "s1"})
    assert built.source("local://context")["local.sessionid"] == "s1"


def test_a_named_context_takes_the_place_of_an_image_and_of_a_stage() -> None:
    images = {"docker.io/library/other:1": image_config(Env=["PATH=/o"])}
    attributes = {"context:alpine": "docker-image://other:1", "context:tool": "docker-image://other:1"}
    text = "FROM missing AS tool\nRUN never\nFROM alpine\nCOPY --from=tool /t /\nRUN x\n"
    built = build(text, attributes, images=images)
    assert built.run().process.env == ("PATH=/o",)
    assert not any("never" in name for name in built.names)
    assert "[context alpine] other:1" in built.names
    assert built.bridge.queries[0].step.startswith("[context ")


def test_a_named_context_of_a_platform_comes_before_the_one_for_all() -> None:
    images = {"docker.io/library/one:latest": image_config(), "docker.io/library/two:latest": image_config()}
    attributes = {"context:base": "docker-image://one", "context:base::linux/amd64": "docker-image://two"}
    built = build("FROM base\nRUN x\n", attributes, images=images)
    assert [query.reference for query in built.bridge.queries] == ["docker.io/library/two:latest"]


def test_of_a_local_named_context_only_what_is_copied_is_asked_for() -> None:
    attributes = {"context:src": "local:src", "sharedkey:localdir:src": "k"}
    text = "FROM alpine\nCOPY --from=src a /\nRUN --mount=from=src,source=b,target=/m x\n"
    built = build(text, attributes, sources={"local://src": {".dockerignore": b"*.o\n"}})
    asked = built.source("local://src")
    assert json.loads(asked["local.followpaths"]) == ["a", "b"]
    assert json.loads(asked["local.excludepatterns"]) == ["*.o"]
    assert asked["local.sharedkeyhint"] == "context:src-k"
    assert "[context src] load from client" in built.names


def test_a_local_named_context_that_is_a_base_is_asked_for_as_a_whole() -> None:
    built = build("FROM src\nRUN x\n", {"context:src": "local:src"}, sources={"local://src": {}})
    assert "local.followpaths" not in built.source("local://src")


@pytest.mark.parametrize("tag", ["", ":latest"])
def test_an_image_in_the_clients_layout(tag: str) -> None:
    reference = f"docker.io/library/base@{_DIGEST}"
    images = {reference: image_config(Env=["PATH=/l"])}
    built = build("FROM base\nRUN x\n", {"context:base": f"oci-layout://store{tag}@{_DIGEST}"}, images=images)
    assert built.source(f"oci-layout://{reference}") == {"oci.store": "store"}
    assert built.bridge.queries[0].layout == "store"


def test_the_result_of_another_build_is_a_base() -> None:
    edge = Node(SourceOp("local://given")).output()
    config = b64encode(image_config(Env=["PATH=/i"])).decode()
    attributes = {
        "context:base": "input:other",
        "input-metadata:other": json.dumps({"containerimage.config": config}),
    }
    built = build("FROM base\nRUN x\n", attributes, inputs={"other": edge})
    assert built.run().process.env == ("PATH=/i",)


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ("nothing", "invalid context specifier nothing for base"),
        ("ftp://x", "unsupported context source ftp for base"),
        ("input:gone", "invalid input gone for base"),
        ("oci-layout://store", "has no digest"),
        ("docker-image://UPPER", "must be lowercase"),
    ],
)
def test_a_named_context_that_cannot_be_fails_at_the_line_that_needs_it(context: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words) as caught:
        build("\nFROM base\n", {"context:base": context})
    assert caught.value.lines is not None
    assert caught.value.lines.first == 2


def test_a_build_context_that_is_no_address_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="unsupported build context 'nonsense'"):
        build("FROM alpine\n", {"context": "nonsense"})
