"""An image as both front ends show it."""

from dataclasses import replace

import pytest

from sampan.docker.views.image_view import descriptor_json, history_json, inspect_json, manifests_json, summary_json
from sampan.oci.digest import Digest
from sampan.oci.image_config import HealthCheck, History
from sampan.oci.platform import Platform
from sampan.resource.image import AnnotatedDescriptor, ImageManifest, ManifestKind
from sampan_cli.shape.go import shape_image
from tests.fakes.image_values import MANIFEST, image_value

IMAGE = replace(image_value(cmd=("sh",), labels={"b": "2", "a": "1"}), repo_tags=("web:1",), created_ns=1_500_000_000)


def test_steps_are_newest_first_and_have_the_sizes_of_their_layers() -> None:
    steps = (History(None, "ADD"), History(None, "CMD", empty_layer=True), History(5 * 10**9, "RUN"))
    rows = history_json(replace(IMAGE, history=steps), [10, 20])
    assert [(row["CreatedBy"], row["Size"], row["Created"]) for row in rows] == [
        ("RUN", 20, 5),
        ("CMD", 0, 0),
        ("ADD", 10, 0),
    ]
    assert [row["Id"] for row in rows] == [IMAGE.id, "<missing>", "<missing>"]


@pytest.mark.parametrize(("version", "tags"), [((1, 42), ["<none>:<none>"]), ((1, 43), [])])
def test_image_without_a_name_is_called_none_by_old_versions(version: tuple[int, int], tags: list[str]) -> None:
    assert summary_json(replace(IMAGE, repo_tags=(), repo_digests=()), 1, version)["RepoTags"] == tags


def test_both_front_ends_say_the_same_of_an_image() -> None:
    image = replace(IMAGE, config=replace(IMAGE.config, health_check=HealthCheck(("CMD", "true"), interval_ns=10**9)))
    sent, printed = inspect_json(image, 7, "overlay2"), shape_image(image, 7, "overlay2")
    assert sent["Config"]["Healthcheck"] == {"Test": ["CMD", "true"], "Interval": 10**9}
    for name in ("Id", "RepoTags", "Created", "Size", "RootFS", "Metadata", "Descriptor", "Architecture"):
        assert printed[name] == sent[name]
    config = printed["Config"]
    assert isinstance(config, dict)
    assert {name: config[name] for name in ("Cmd", "Labels", "Healthcheck")} == {
        name: sent["Config"][name] for name in ("Cmd", "Labels", "Healthcheck")
    }


def test_manifest_says_what_it_is_and_what_it_takes() -> None:
    listed = AnnotatedDescriptor(MANIFEST.media_type, Digest.of(b"other"), 9, {"k": "v"})
    kinds = (ManifestKind.IMAGE, ManifestKind.ATTESTATION, ManifestKind.UNKNOWN)
    members = tuple(
        ImageManifest(listed, kind, True, 100, Platform("linux", "arm64", "v8"), IMAGE.id, "about") for kind in kinds
    )
    rows = manifests_json(replace(IMAGE, manifests=members), (), lambda _: 50, {IMAGE.id: ["c"]})
    assert [row["Kind"] for row in rows] == ["image", "attestation", "unknown"]
    assert rows[0]["Size"] == {"Content": 100, "Total": 150}
    assert rows[0]["ImageData"]["Containers"] == ["c"]
    assert rows[1]["AttestationData"] == {"For": "about"}
    assert rows[2]["Descriptor"] == descriptor_json(listed) | {
        "platform": {"architecture": "arm64", "os": "linux", "variant": "v8"}
    }


def test_old_versions_have_no_list_of_names_that_there_are_none_of() -> None:
    rows = [summary_json(replace(IMAGE, repo_digests=()), 1, version) for version in ((1, 42), (1, 43))]
    assert [row["RepoDigests"] for row in rows] == [None, []]
