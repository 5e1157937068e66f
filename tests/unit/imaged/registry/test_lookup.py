"""What registries say of images that nobody brings here."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from imaged.registry.endpoints import Endpoints, MirrorConfig, RegistryConfig
from imaged.registry.lookup import Lookup
from imaged.registry.transport import Transport
from sampan.errors import (
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RemoteError,
    SampanError,
    UnauthenticatedError,
)
from sampan.oci.platform import Platform
from sampan.oci.reference import parse_reference
from sampan.resource.image import ANONYMOUS, Credentials
from tests.fakes.registry import OCI_INDEX, FakeRegistry, Fault
from tests.unit.imaged.parts import Parts, imaged_parts

FOUND = [
    {"name": "library/debian", "description": "An OS", "star_count": 5, "is_official": True, "is_automated": False},
    {"name": "a/b", "description": None, "star_count": "many", "is_official": "yes"},
]


class Asking:
    """A lookup that is closed with its test."""

    def __init__(self, parts: Parts, transport: Transport) -> None:
        self._lookup = Lookup(parts.sources, Endpoints(), transport)

    async def inspect(self, name: str, credentials: Credentials = ANONYMOUS) -> Any:
        return await self._lookup.inspect(parse_reference(name).with_default_tag(), credentials)

    async def tags(self, name: str) -> Any:
        return await self._lookup.tags(parse_reference(name), ANONYMOUS)

    async def search(self, term: str, credentials: Credentials = ANONYMOUS) -> Any:
        return await self._lookup.search(term, 25, credentials)


@pytest.fixture
async def asking(parts: Parts) -> Any:
    transport = Transport(stall_timeout_s=5)
    yield Asking(parts, transport)
    await transport.close()


async def test_manifest_is_told_with_the_platform_of_its_config(
    parts: Parts, asking: Asking, registry: FakeRegistry
) -> None:
    stated = registry.add_image("web", "latest", b"layer", architecture="arm64", variant="v8")
    found = await asking.inspect(f"{registry.address}/web")
    assert (found.target.digest, found.target.size) == (stated["digest"], stated["size"])
    assert found.platforms == (Platform("linux", "arm64", "v8"),)
    assert parts.blobs() == set()


async def test_index_is_told_with_all_of_its_platforms(asking: Asking, registry: FakeRegistry) -> None:
    entries = []
    for architecture in ("amd64", "arm64"):
        entry = registry.add_image("web", "", architecture.encode(), architecture=architecture)
        entries.append(entry | {"platform": {"os": "linux", "architecture": architecture}})
    index = {"schemaVersion": 2, "manifests": entries}
    stated = registry.add_manifest("web", "1", index, OCI_INDEX)
    found = await asking.inspect(f"{registry.address}/web:1")
    assert (found.target.digest, found.target.media_type) == (stated["digest"], OCI_INDEX)
    assert [str(platform) for platform in found.platforms] == ["linux/amd64", "linux/arm64"]
    assert (await asking.inspect(f"{registry.address}/web@{stated['digest']}")) == found


async def test_artifact_is_told_without_a_platform(asking: Asking, registry: FakeRegistry) -> None:
    media_type = "application/vnd.oci.image.manifest.v1+json"
    config = registry.add_blob(b"{}", "application/vnd.oci.empty.v1+json")
    registry.add_manifest("chart", "1", {"schemaVersion": 2, "config": config, "layers": []}, media_type)
    found = await asking.inspect(f"{registry.address}/chart:1")
    assert (found.target.media_type, found.platforms) == (media_type, ())


@pytest.mark.parametrize(
    ("status", "code", "message", "kind"),
    [
        (404, "MANIFEST_UNKNOWN", "manifest unknown", NotFoundError),
        (404, "NAME_UNKNOWN", "repository name not known to registry", NotFoundError),
        (403, "DENIED", "requested access to the resource is denied", PermissionDeniedError),
        (418, "TEAPOT", "short and stout", RemoteError),
    ],
)
async def test_refusal_is_told_in_the_registrys_words(
    asking: Asking, registry: FakeRegistry, status: int, code: str, message: str, kind: type[SampanError]
) -> None:
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    registry.faults.append(Fault("/manifests/", status=status, body=body))
    with pytest.raises(kind, match=f"{code.lower().replace('_', ' ')}: {message}"):
        await asking.inspect(f"{registry.address}/web")


async def test_credentials_are_used_and_missing_ones_told(parts: Parts, asking: Asking) -> None:
    async with FakeRegistry(auth="token", users={"alice": "secret"}).running() as registry:
        registry.add_image("web", "latest", b"layer")
        assert (await asking.inspect(f"{registry.address}/web", Credentials("alice", "secret"))).platforms
        with pytest.raises(UnauthenticatedError, match="incorrect username or password"):
            await asking.inspect(f"{registry.address}/web", Credentials("alice", "wrong"))


async def test_config_that_is_not_what_its_digest_says_is_refused(asking: Asking, registry: FakeRegistry) -> None:
    registry.add_image("web", "latest", b"layer")
    registry.faults.append(Fault("/blobs/", replace=lambda data: data[:-1] + b" "))
    with pytest.raises(DataLossError, match=r"config sha256:.*the registry sent"):
        await asking.inspect(f"{registry.address}/web")


async def test_digest_that_gets_something_else_is_refused(asking: Asking, registry: FakeRegistry) -> None:
    stated = registry.add_image("web", "latest", b"layer")
    registry.faults.append(Fault("/manifests/", replace=lambda data: data + b" "))
    with pytest.raises(DataLossError, match=f"verification failed for digest {stated['digest']}"):
        await asking.inspect(f"{registry.address}/web@{stated['digest']}")


async def test_tags_come_page_by_page_from_the_repository_alone(asking: Asking, registry: FakeRegistry) -> None:
    pages = {"": ["1", "2"], "last=2&n=2": ["3"]}
    for query, tags in pages.items():
        # A link may lead anywhere; only its query counts.
        headers = {"Link": '<http://169.254.169.254/latest?last=2&n=2>; rel="next"'} if not query else {}
        body = json.dumps({"name": "web", "tags": tags}).encode()
        registry.faults.append(Fault("/tags/list", status=200, headers=headers, body=body))
    assert await asking.tags(f"{registry.address}/web") == ["1", "2", "3"]
    assert registry.paths("tags") == ["/v2/web/tags/list", "/v2/web/tags/list?last=2&n=2"]


@pytest.mark.parametrize("answer", [{"tags": None}, {"tags": []}, {}])
async def test_repository_may_have_no_tags(asking: Asking, registry: FakeRegistry, answer: object) -> None:
    registry.faults.append(Fault("/tags/list", status=200, body=json.dumps(answer).encode()))
    assert await asking.tags(f"{registry.address}/web") == []


@pytest.mark.parametrize("answer", ["[]", {"tags": "all"}, {"tags": [1]}])
async def test_answer_that_is_no_list_of_tags_is_told(asking: Asking, registry: FakeRegistry, answer: object) -> None:
    registry.faults.append(Fault("/tags/list", status=200, body=json.dumps(answer).encode()))
    with pytest.raises(RemoteError, match="the answer is not a list of tags"):
        await asking.tags(f"{registry.address}/web")


async def test_tags_without_an_end_are_given_up(asking: Asking, registry: FakeRegistry) -> None:
    page = json.dumps({"tags": [str(number) for number in range(40_000)]}).encode()
    headers = {"Link": '</v2/web/tags/list?last=x>; rel="next"'}
    registry.faults.append(Fault("/tags/list", times=99, status=200, headers=headers, body=page))
    with pytest.raises(RemoteError, match="there are more than 100000 tags"):
        await asking.tags(f"{registry.address}/web")


async def test_search_asks_the_registry_before_the_slash(asking: Asking, registry: FakeRegistry) -> None:
    registry.searched = {"num_results": 2, "query": "deb", "results": FOUND}
    first, second = await asking.search(f"{registry.address}/deb ian", Credentials("alice", "secret"))
    assert (first.name, first.stars, first.official) == ("library/debian", 5, True)
    # Whatever a stranger puts into a field.
    assert (second.name, second.description, second.stars, second.official) == ("a/b", "", 0, False)
    _, path, headers = registry.requests[-1]
    assert path == "/v1/search?q=deb+ian&n=25"
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"alice:secret"


async def test_registry_without_a_search_says_so_in_dockers_words(asking: Asking, registry: FakeRegistry) -> None:
    with pytest.raises(RemoteError, match=r"^Unexpected status code 404$"):
        await asking.search(f"{registry.address}/debian")


@pytest.mark.parametrize("answer", [[], {"results": {}}, "text"])
async def test_answer_that_is_no_list_of_results_is_told(
    asking: Asking, registry: FakeRegistry, answer: object
) -> None:
    registry.searched = answer
    with pytest.raises(RemoteError, match="the answer is not a list of results"):
        await asking.search(f"{registry.address}/debian")


async def test_answer_without_an_end_is_not_read_to_it(asking: Asking, registry: FakeRegistry) -> None:
    registry.searched = {"results": [{"name": "x" * (5 << 20)}]}
    with pytest.raises(RemoteError, match="longer than"):
        await asking.search(f"{registry.address}/debian")


@pytest.mark.parametrize("term", ["http://x/y", "https://x/y", "localhost/", ""])
async def test_term_that_is_none_is_refused(asking: Asking, term: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid repository name"):
        await asking.search(term)


def test_dockers_own_registry_is_searched_at_its_index() -> None:
    assert Endpoints().search("docker.io", ANONYMOUS).urls == ("https://index.docker.io",)
    assert Endpoints(docker_io_host="127.0.0.1:5").search("docker.io", ANONYMOUS).urls[-1] == "http://127.0.0.1:5"


async def test_mirror_is_asked_for_tags_first_and_the_registry_if_it_cannot(
    tmp_path: Path, registry: FakeRegistry
) -> None:
    async with FakeRegistry().running() as mirror:
        configured = [RegistryConfig(registry.address, mirrors=(MirrorConfig(mirror.url),))]
        async with imaged_parts(tmp_path / "imaged", configured) as parts:
            transport = Transport(stall_timeout_s=5)
            asking = Asking(parts, transport)
            for place, tag in ((registry, "theirs"), (mirror, "mirrored")):
                place.faults.append(Fault("/tags/list", status=200, body=json.dumps({"tags": [tag]}).encode()))
            try:
                assert await asking.tags(f"{registry.address}/x") == ["mirrored"]
                assert registry.requests == []
                assert await asking.tags(f"{registry.address}/x") == ["theirs"]
            finally:
                await transport.close()
