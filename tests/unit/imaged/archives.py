"""Image archives made for tests, file by file."""

import io
import json
import tarfile
from collections.abc import AsyncIterator, Mapping
from typing import Any

from imaged.archive.load import Loader
from imaged.archive.save import Saver
from imaged.images.names import Images
from sampan.oci.platform import Platform
from sampan.resource.image import LoadedImage
from tests.support.images import Image, descriptor, sha256
from tests.unit.imaged.parts import Parts


def archive(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """Return a tar of files, and of links, which are given as they are to be."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def link(target: str) -> tarfile.TarInfo:
    """Return a symbolic link."""
    info = tarfile.TarInfo()
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


def dump(value: object) -> bytes:
    """Return JSON."""
    return json.dumps(value).encode()


def blob(content: bytes) -> str:
    """Return where an OCI layout has content."""
    return f"blobs/sha256/{sha256(content)[7:]}"


def docker_archive(image: Image, tags: list[str] | None = None, **changed: Any) -> dict[str, bytes | tarfile.TarInfo]:
    """Return the files of a docker-archive as podman and old versions of Docker write it."""
    config = image.config_blob()
    names = [f"{number}/layer.tar" for number, _ in enumerate(image.layers)]
    item = {"Config": "config.json", "RepoTags": tags or ["web:1"], "Layers": names, **changed}
    blobs = {name: layer.blob for name, layer in zip(names, image.layers, strict=True)}
    assert all(isinstance(content, bytes) for content in blobs.values())
    return {**blobs, "config.json": config, "manifest.json": dump([item])}  # type: ignore[dict-item]


def oci_layout(image: Image, name: str = "docker.io/library/web:1") -> dict[str, bytes | tarfile.TarInfo]:
    """Return the files of an OCI layout of one image."""
    manifest = image.manifest()
    entry = descriptor(image.media_type, manifest, len(manifest))
    return {**contents(image), **index_of([{**entry, "annotations": {"io.containerd.image.name": name}}])}


def contents(image: Image) -> dict[str, bytes | tarfile.TarInfo]:
    """Return an image's blobs."""
    blobs = [image.manifest(), image.config_blob(), *(each.blob for each in image.layers)]
    return {blob(content): content for content in blobs if isinstance(content, bytes)}


def index_of(entries: list[dict[str, Any]]) -> dict[str, bytes | tarfile.TarInfo]:
    """Return what makes a layout of blobs."""
    return {
        "oci-layout": dump({"imageLayoutVersion": "1.0.0"}),
        "index.json": dump({"schemaVersion": 2, "manifests": entries}),
    }


async def chunks(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    """Yield bytes as they come over a connection."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def loader(parts: Parts) -> Loader:
    """Return what reads archives."""
    return Loader(parts.store, parts.content, parts.ingests, parts.leases)


async def load(parts: Parts, data: bytes, *platforms: Platform) -> list[LoadedImage]:
    """Load an archive and name what was in it, as the engine does."""
    loaded = await loader(parts).run(chunks(data), platforms)
    for one in loaded:
        first, *others = one.references or (None,)
        await parts.images.create(first, one.target, one.lease, one.platform)
        for reference in others:
            if reference is not None:
                await parts.images.tag(one.image_id, reference)
    return loaded


async def save(parts: Parts, *names: str) -> bytes:
    """Return the archive of images."""
    saver = Saver(Images(parts.store, parts.content), parts.content, parts.leases)
    return b"".join([piece async for piece in saver.archive(names)])
