"""The images of an archive as Docker wrote it before 1.10: for each layer a directory with VERSION, json and layer.tar.

Such images have no config in today's sense: one is made of what the layers' descriptions say.

Reference: Docker image spec 1.0.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

from imaged.archive.files import File, Files
from imaged.archive.images import ArchivedImage, Read, layer_descriptor, read_config, read_json, small
from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject
from sampan.oci import descriptor as media
from sampan.oci.manifest import MAX_LAYERS
from sampan.oci.reference import Reference, parse_reference

_ID: Final = re.compile(r"[0-9a-f]{64}")
_JSON: Final = re.compile(r"([0-9a-f]{64})/json")
_KEPT: Final = ("created", "author", "architecture", "os", "comment", "docker_version")


@dataclass(frozen=True, slots=True)
class _Step:
    """A layer and its description."""

    id: str
    described: JsonObject
    layer: File


def is_legacy(files: Files) -> bool:
    """Say whether the archive has this layout."""
    return any(_JSON.fullmatch(name) for name in files.names())


def from_legacy(files: Files, read: Read) -> list[ArchivedImage]:
    """Return the images that ``repositories`` names; without it, those that nothing else is built on.

    Raises:
        InvalidArgumentError: malformed, a layer or a parent is missing, or a layer is packed.
    """
    tips = _named(files, read)
    if not tips:
        ids = [match[1] for name in files.names() if (match := _JSON.fullmatch(name))]
        parents = {_described(files, read, each).get("parent") for each in ids}
        tips = {each: [] for each in ids if each not in parents}
    return [_image(files, read, tip, tuple(names)) for tip, names in tips.items()]


def _named(files: Files, read: Read) -> dict[str, list[Reference]]:
    if files.find("repositories") is None:
        return {}
    what = "repositories"
    listed = read_json(small(files.get(what, "the archive"), read, what), what)
    tips: dict[str, list[Reference]] = {}
    if not isinstance(listed, dict):
        raise InvalidArgumentError(f"{what} is not an object")
    for repository, tags in listed.items():
        if not isinstance(tags, dict):
            raise InvalidArgumentError(f"{what}: the tags of {repository[:300]!r} are not an object")
        for tag, tip in tags.items():
            if not isinstance(tip, str) or not _ID.fullmatch(tip):
                raise InvalidArgumentError(f"{what}: {repository[:300]}:{tag[:128]} is not an image ID")
            tips.setdefault(tip, []).append(parse_reference(f"{repository}:{tag}"))
    return tips


def _described(files: Files, read: Read, image: str) -> JsonObject:
    name = f"{image}/json"
    described = read_json(small(files.get(name, "the archive"), read, name), name)
    if not isinstance(described, dict):
        raise InvalidArgumentError(f"{name} is not an object")
    return described


def _steps(files: Files, read: Read, tip: str) -> list[_Step]:
    """Return the image's layers, base first."""
    steps: list[_Step] = []
    seen: set[str] = set()
    image: object = tip
    while image:
        if not isinstance(image, str) or not _ID.fullmatch(image) or image in seen:
            raise InvalidArgumentError(f"image {tip[:12]}: parent {str(image)[:80]!r} is not another image's ID")
        if len(seen) == MAX_LAYERS:
            raise InvalidArgumentError(f"image {tip[:12]} has more than {MAX_LAYERS} layers")
        seen.add(image)
        described = _described(files, read, image)
        steps.append(_Step(image, described, files.get(f"{image}/layer.tar", f"{image}/json")))
        image = described.get("parent")
    steps.reverse()
    return steps


def _image(files: Files, read: Read, tip: str, names: tuple[Reference, ...]) -> ArchivedImage:
    steps = _steps(files, read, tip)
    layers = []
    for step in steps:
        descriptor = layer_descriptor(step.layer, f"{step.id}/layer.tar")
        if descriptor.media_type != media.OCI_LAYER:
            raise InvalidArgumentError(f"{step.id}/layer.tar is packed: its diff ID is not known")
        layers.append((descriptor, step.layer))
    described = steps[-1].described
    config = {key: described[key] for key in _KEPT if described.get(key)}
    config = {"architecture": "amd64", "os": "linux"} | config
    config["config"] = described.get("config") or {}
    config["rootfs"] = {"type": "layers", "diff_ids": [layer.digest for layer, _ in layers]}
    config["history"] = [_history(step.described) for step in steps]
    content = json.dumps(config, separators=(",", ":"), ensure_ascii=False).encode()
    return ArchivedImage(content, read_config(content, f"{tip}/json"), tuple(layers), names)


def _history(described: JsonObject) -> JsonObject:
    made_by = described.get("container_config")
    command = made_by.get("Cmd") if isinstance(made_by, dict) else None
    words = command if isinstance(command, list) and all(isinstance(word, str) for word in command) else []
    history = {
        "created": described.get("created"),
        "created_by": " ".join(words),
        "author": described.get("author"),
        "comment": described.get("comment"),
    }
    return {key: value for key, value in history.items() if value}
