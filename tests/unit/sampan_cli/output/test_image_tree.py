from dataclasses import replace

from sampan.oci.descriptor import OCI_MANIFEST
from sampan.oci.digest import Digest
from sampan.oci.platform import parse_platform
from sampan.resource.image import AnnotatedDescriptor, ImageDetails, ImageManifest, ManifestKind
from sampan_cli.output.image_tree import Facts, tree
from tests.fakes.image_values import image_value


def manifest(platform: str, content: int, image_id: str = "", kind: ManifestKind = ManifestKind.IMAGE) -> ImageManifest:
    descriptor = AnnotatedDescriptor(OCI_MANIFEST, Digest.of(platform.encode()), 500)
    return ImageManifest(descriptor, kind, bool(image_id), content, parse_platform(platform), image_id)


def shown(*images: ImageDetails, used: str = "") -> list[str]:
    facts = Facts(lambda image: 3_000_000, {image.id: image for image in images}, {used: ("c1",)} if used else {})
    return [" ".join(line.split()) for line in tree(images, facts)][4:]


def test_an_image_has_its_names_and_below_them_every_platform_also_one_that_is_not_here() -> None:
    one = image_value()
    both = replace(
        one,
        repo_tags=("web:1", "web:latest"),
        manifests=(
            manifest("linux/amd64", 1_000_000, one.id),
            manifest("linux/arm64", 0),
            manifest("unknown/unknown", 5_000, kind=ManifestKind.ATTESTATION),
        ),
    )
    digests = (one.id, Digest.of(b"linux/amd64"), Digest.of(b"linux/arm64"))
    own, amd64, arm64 = (digest.partition(":")[2][:12] for digest in digests)
    assert shown(both, used=one.id) == [
        "web:1",
        f"web:latest {own} 3MB 1MB U",
        f"├─ linux/amd64 {amd64} 4MB 1MB U",
        f"└─ linux/arm64/v8 {arm64} 0B 0B",
    ]


def test_an_image_without_a_name_says_so() -> None:
    assert shown(image_value())[0].startswith("<untagged> ")


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    image = replace(image_value(), repo_tags=("a-very-long-name/of-an-image:1",))
    lines = list(tree([image], Facts(lambda _: 1, {}, {})))
    assert lines[2].index("ID") == lines[4].index(" " * 3) + 3
    assert lines[2].index("DISK USAGE") + len("DISK USAGE") == lines[4].index("1B") + 2
