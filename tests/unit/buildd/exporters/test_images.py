"""Images with and without names, pushed or stored."""

import base64
import json
from dataclasses import replace

import pytest

from buildd.exporters.attributes import parse_attributes
from buildd.exporters.protocol import Attestation, BuildResult
from buildd.protocol import Tree
from buildd.session.protocol import Credentials
from sampan.errors import InvalidArgumentError, NotFoundError, RemoteError, SampanError, UnimplementedError
from sampan.oci.descriptor import OCI_MANIFEST
from sampan.resource import image as images
from tests.fakes.build_stores import layer
from tests.unit.buildd.exporters.exporting import IMAGE, Room, one, several


async def test_an_image_gets_its_names_when_all_of_it_is_there(room: Room) -> None:
    tree = room.store.add("base", "run")
    told = await room.export(one(tree), "moby", name="docker.io/library/one:1,two")

    ((name, target, lease),) = room.images.created
    assert (name, lease) == ("docker.io/library/one:1", "lease")
    assert room.images.tags == [("docker.io/library/one:1", "docker.io/library/two:latest")]
    assert room.announced == [(IMAGE.id, ("docker.io/library/one:1", "docker.io/library/two:latest"))]
    manifest = room.json(target.digest)
    assert [each["digest"] for each in manifest["layers"]] == [each.descriptor.digest for each in tree.layers]
    config = room.json(manifest["config"]["digest"])
    assert config["rootfs"] == {"type": "layers", "diff_ids": [each.diff_id for each in tree.layers]}
    assert config["config"] == {"Env": ["A=1"]}
    assert told["containerimage.digest"] == target.digest
    assert told["containerimage.config.digest"] == manifest["config"]["digest"]
    assert told["image.name"] == "docker.io/library/one:1,docker.io/library/two:latest"
    described = json.loads(base64.b64decode(told["containerimage.descriptor"]))
    assert (described["digest"], described["annotations"]["config.digest"]) == (
        target.digest,
        manifest["config"]["digest"],
    )
    assert set(room.store.kept_by.values()) == {"lease"}
    assert room.step.said == [
        "exporting layers",
        f"writing image {manifest['config']['digest']}",
        "naming to docker.io/library/one:1",
        "naming to docker.io/library/two:latest",
    ]


def again(tree: Tree, **more: object) -> BuildResult:
    """A result of which it is known when its layers were made, as of every one that steps came to."""
    made_ns = {each.diff_id: 1_600_000_000 * 10**9 for each in tree.layers}
    return replace(one(tree), made_ns=made_ns, **more)  # type: ignore[arg-type]


async def test_an_image_that_was_made_of_the_same_is_only_named(room: Room) -> None:
    tree = room.store.add("base", "run")
    told = await room.export(again(tree), "moby", name="one")
    said, room.step.said[:] = list(room.step.said), []
    room.store.blobs.clear()  # nothing is looked at, and nothing is written
    assert await room.export(again(tree), "moby", name="one,two") == {
        **told,
        "image.name": "docker.io/library/one:latest,docker.io/library/two:latest",
    }
    first, second = room.images.created
    assert (first[:2], first[2], second[2]) == (second[:2], "lease", "")
    assert room.images.tags == [("docker.io/library/one:latest", "docker.io/library/two:latest")]
    assert room.store.blobs == {}
    assert room.step.said == [*said, "naming to docker.io/library/two:latest"]
    assert room.made_ready[-1] == tree
    assert room.announced[-1] == (IMAGE.id, ("docker.io/library/one:latest", "docker.io/library/two:latest"))


async def test_an_image_that_is_not_whole_any_more_is_made_anew(room: Room) -> None:
    tree = room.store.add("base", "run")
    told = await room.export(again(tree), "moby", name="one")
    room.store.blobs.pop(told["containerimage.digest"])
    room.images.lost = True
    assert await room.export(again(tree), "moby", name="one") == told
    assert [lease for _, _, lease in room.images.created] == ["lease", "lease"]
    assert told["containerimage.digest"] in room.store.blobs


@pytest.mark.parametrize(
    "attributes", [{"push": "true"}, {"name-canonical": "true"}, {"compression": "zstd"}, {"source-date-epoch": "1"}]
)
async def test_what_is_asked_for_otherwise_is_another_image(room: Room, attributes: dict[str, str]) -> None:
    tree = room.store.add("base", "run")
    await room.export(again(tree), "image", name="one")
    await room.export(again(tree), "image", name="one", **attributes)
    assert "" not in [lease for _, _, lease in room.images.created]


async def test_another_result_is_another_image(room: Room) -> None:
    tree = room.store.add("base", "run")
    await room.export(again(tree), "moby", name="one")
    for other in (
        one(tree),  # nobody knows how old it is
        again(tree, metadata={"containerimage.config": b'{"architecture": "amd64", "os": "linux"}'}),
        again(replace(tree, unchanged=(2,))),
        again(Tree(tree.layers[:1])),
        again(tree, taken=frozenset(each.diff_id for each in tree.layers)),
    ):
        await room.export(other, "moby", name="one")
    assert {lease for _, _, lease in room.images.created} == {"lease"}


async def test_several_platforms_make_an_index(room: Room) -> None:
    trees = {"linux/amd64": room.store.add("a"), "linux/arm64": room.store.add("b", "c")}
    told = await room.export(several(trees), "image", name="x", **{"annotation-index.k": "v", "annotation.m": "n"})
    index = room.json(told["containerimage.digest"])
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    assert index["annotations"] == {"k": "v"}
    assert [each["platform"] for each in index["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]
    for entry, tree in zip(index["manifests"], trees.values(), strict=True):
        manifest = room.json(entry["digest"])
        assert manifest["annotations"] == {"m": "n"}
        assert len(manifest["layers"]) == len(tree.layers)
    assert "containerimage.config.digest" not in told


async def test_dockers_media_types_if_they_are_asked_for(room: Room) -> None:
    told = await room.export(one(room.store.add("a")), "image", oci_mediatypes="false")
    manifest = room.json(told["containerimage.digest"])
    assert manifest["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
    assert manifest["layers"][0]["mediaType"] == "application/vnd.docker.image.rootfs.diff.tar.gzip"
    assert manifest["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"


async def test_an_image_without_a_name_may_be_dangling(room: Room) -> None:
    await room.export(one(room.store.add("a")), "moby")
    assert room.images.created[0][0] == ""


async def test_a_push_uses_the_clients_credentials(room: Room) -> None:
    room.session.logins = {"registry.example": Credentials("u", "p"), "registry-1.docker.io": Credentials("", "t")}
    await room.export(one(room.store.add("a")), "image", name="registry.example/x:1,y", push="true")
    assert room.images.pushed == [
        ("registry.example/x:1", images.Credentials("u", "p")),
        ("docker.io/library/y:latest", images.Credentials(identity_token="t")),
    ]


async def test_a_push_that_fails_names_what_was_pushed(room: Room) -> None:
    room.images.refusal = RemoteError("no such host")
    with pytest.raises(RemoteError, match=r"^failed to push r\.example/x:1: no such host$"):
        await room.export(one(room.store.add("a")), "image", name="r.example/x:1", push="true")


async def test_what_is_missing_is_said_and_nothing_is_named(room: Room) -> None:
    room.images.failure = NotFoundError("content sha256:… is not here")
    with pytest.raises(NotFoundError):
        await room.export(one(Tree((layer("gone"),))), "moby", name="x")
    assert not room.images.tags


@pytest.mark.parametrize(
    ("kind", "attributes", "words"),
    [
        ("nonsense", {}, 'exporter "nonsense" could not be found'),
        ("image", {"colour": "red"}, "unknown attribute 'colour' of exporter image"),
        ("image", {"push": "true"}, "can't push without a name"),
        ("image", {"push": "maybe"}, "maybe"),
        ("image", {"name": "UPPER"}, "invalid reference format"),
        ("image", {"name": "a@sha256:" + "0" * 64}, "cannot have a digest"),
    ],
)
def test_what_has_no_effect_is_refused_by_name(kind: str, attributes: dict[str, str], words: str) -> None:
    with pytest.raises(SampanError, match=words):
        parse_attributes(kind, attributes)


async def test_an_image_is_pushed_by_its_digest_alone(room: Room) -> None:
    told = await room.export(one(room.store.add("a")), "image", name="r.example/a", push="true", push_by_digest="true")
    name = f"r.example/a@{told['containerimage.digest']}"
    assert [pushed for pushed, _ in room.images.pushed] == [name]
    assert [each[0] for each in room.images.created] == [name]
    assert told["image.name"] == "r.example/a"
    with pytest.raises(InvalidArgumentError, match=r"can't push tagged ref r\.example/a:1 by digest"):
        parse_attributes("image", {"name": "r.example/a:1", "push-by-digest": "true"})


async def test_what_is_not_to_be_stored_is_pushed_all_the_same(room: Room) -> None:
    await room.export(one(room.store.add("a")), "image", name="r.example/a:1,r.example/b", push="true", store="false")
    names = ["r.example/a:1", "r.example/b:latest"]
    assert [pushed for pushed, _ in room.images.pushed] == names
    assert [each.media_type for each in room.images.targets if each is not None] == [OCI_MANIFEST] * 2
    await room.export(one(room.store.add("a")), "image", name="r.example/a:1", store="false")
    assert len(room.images.pushed) == 2
    assert room.images.created == []


async def test_names_with_digests_are_added(room: Room) -> None:
    told = await room.export(one(room.store.add("a")), "image", name="a:1", name_canonical="true",
                             dangling_name_prefix="dangling")  # fmt: skip
    digest = told["containerimage.digest"]
    assert [each[0] for each in room.images.created] == [
        "docker.io/library/a:1", f"docker.io/library/a@{digest}", f"dangling@{digest}"
    ]  # fmt: skip
    assert told["image.name"] == f"docker.io/library/a:1,dangling@{digest}"


def attested(inline_only: bool) -> BuildResult:
    said = Attestation("https://slsa.dev/provenance/v1", b'{"a": 1}', "provenance.json", inline_only=inline_only)
    return replace(one(Tree()), attestations={"": (said,)})


async def test_an_attested_image_is_an_index_with_a_statement(room: Room) -> None:
    told = await room.export(attested(inline_only=True), "image", name="r.example/a:1")
    made, said = room.json(told["containerimage.digest"])["manifests"]
    manifest = room.json(said["digest"])
    assert manifest["subject"]["digest"] == made["digest"]
    assert manifest["artifactType"] == "application/vnd.docker.attestation.manifest.v1+json"
    (layer,) = manifest["layers"]
    statement = room.json(layer["digest"])
    assert statement["subject"][0]["name"].startswith("pkg:docker/r.example/a@1?platform=linux%2F")
    assert statement["subject"][0]["digest"] == {"sha256": made["digest"].partition(":")[2]}
    assert statement["predicate"] == {"a": 1}
    told = await room.export(attested(inline_only=True), "image", oci_artifact="false")
    _, said = room.json(told["containerimage.digest"])["manifests"]
    config = room.json(room.json(said["digest"])["config"]["digest"])
    assert config["architecture"] == "unknown"
    assert config["rootfs"]["diff_ids"]
    with pytest.raises(InvalidArgumentError, match='cannot export attestations with "oci-mediatypes=false"'):
        await room.export(attested(inline_only=False), "image", oci_mediatypes="false")


async def test_what_is_for_images_alone_makes_nothing_else_an_index(room: Room) -> None:
    for kind in ("moby", "oci"):
        told = await room.export(attested(inline_only=True), kind)
        assert "layers" in room.json(told["containerimage.digest"])
    with pytest.raises(UnimplementedError, match="does not currently support exporting manifest lists"):
        await room.export(attested(inline_only=False), "docker")
