"""What an image's index leads to, in the shape that Docker's clients know: ``docker image ls --tree`` draws it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from dockerapi.image.image_json import descriptor_json, image_bytes
from dockerapi.image.registries import platform_json
from sampan.api.image.v1 import images_pb2
from sampan.engine.sizes import Sizes

_KINDS: Final = {
    images_pb2.ImageManifest.UNKNOWN: "unknown",
    images_pb2.ImageManifest.IMAGE: "image",
    images_pb2.ImageManifest.ATTESTATION: "attestation",
}


def manifests_json(
    image: images_pb2.Image,
    others: Iterable[images_pb2.Image],
    sizes: Sizes,
    containers: Mapping[str, Sequence[str]],
) -> list[dict[str, Any]]:
    """Return the manifests of one image; ``containers`` are the IDs of those that use an image, by its ID.

    A platform whose image is here, and unpacked, is among ``others``.
    """
    known = {each.id: each for each in (*others, image)}
    return [_summary(each, image, known, sizes, containers) for each in image.manifests]


def _summary(
    manifest: images_pb2.ImageManifest,
    image: images_pb2.Image,
    known: Mapping[str, images_pb2.Image],
    sizes: Sizes,
    containers: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    own = known.get(manifest.image_id) if manifest.available else None
    unpacked = image_bytes(own, sizes) if own else 0
    platform = manifest.platform if manifest.HasField("platform") else image.platform
    descriptor = descriptor_json(manifest.descriptor)
    if manifest.HasField("platform"):
        descriptor["platform"] = platform_json(platform)
    result: dict[str, Any] = {
        "ID": manifest.descriptor.digest,
        "Descriptor": descriptor,
        "Available": manifest.available,
        "Size": {"Content": manifest.content_bytes, "Total": manifest.content_bytes + unpacked},
        "Kind": _KINDS[manifest.kind],
    }
    if manifest.kind == images_pb2.ImageManifest.IMAGE:
        result["ImageData"] = {
            "Platform": platform_json(platform),
            "Size": {"Unpacked": unpacked},
            "Containers": list(containers.get(manifest.image_id, ())),
        }
    elif manifest.kind == images_pb2.ImageManifest.ATTESTATION:
        result["AttestationData"] = {"For": manifest.attested_digest}
    return result
