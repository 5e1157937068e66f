"""Images made for tests, layer by layer, and the few HTTP requests that push them to a registry."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import zstandard

from tests.support.registry import Registry

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"

LAYER_TYPES = {
    (False, "gzip"): "application/vnd.docker.image.rootfs.diff.tar.gzip",
    (False, "none"): "application/vnd.docker.image.rootfs.diff.tar",
    (True, "gzip"): "application/vnd.oci.image.layer.v1.tar+gzip",
    (True, "zstd"): "application/vnd.oci.image.layer.v1.tar+zstd",
    (True, "none"): "application/vnd.oci.image.layer.v1.tar",
}


def sha256(content: bytes | Path) -> str:
    """Return the digest of ``content``."""
    if isinstance(content, bytes):
        return "sha256:" + hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer's tar; names are written as they are, hostile ones too."""

    name: str
    content: bytes = b""
    type: bytes = tarfile.REGTYPE
    link: str = ""
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    xattrs: Mapping[str, str] = field(default_factory=dict)


def directory(name: str, mode: int = 0o755) -> Entry:
    """Return a directory's entry."""
    return Entry(name, type=tarfile.DIRTYPE, mode=mode)


def symlink(name: str, target: str) -> Entry:
    """Return a symbolic link's entry."""
    return Entry(name, type=tarfile.SYMTYPE, link=target, mode=0o777)


def hardlink(name: str, target: str) -> Entry:
    """Return a hard link's entry."""
    return Entry(name, type=tarfile.LNKTYPE, link=target)


def tar(*entries: Entry) -> bytes:
    """Return an uncompressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for entry in entries:
            info = tarfile.TarInfo(entry.name)
            info.type, info.linkname, info.mode = entry.type, entry.link, entry.mode
            info.uid, info.gid, info.size, info.mtime = entry.uid, entry.gid, len(entry.content), 1_600_000_000
            info.pax_headers = {f"SCHILY.xattr.{key}": value for key, value in entry.xattrs.items()}
            archive.addfile(info, io.BytesIO(entry.content))
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's blob, and the digest of what is in it."""

    blob: bytes | Path
    diff_id: str
    compression: str = "gzip"  # gzip, zstd or none

    @property
    def size(self) -> int:
        """Size of the blob in bytes."""
        return len(self.blob) if isinstance(self.blob, bytes) else self.blob.stat().st_size


def layer(content: bytes, compression: str = "gzip") -> Layer:
    """Return the layer whose tar is ``content``."""
    compressed = {
        "gzip": lambda: gzip.compress(content, compresslevel=1, mtime=0),
        "zstd": lambda: zstandard.ZstdCompressor().compress(content),
        "none": lambda: content,
    }[compression]()
    return Layer(compressed, sha256(content), compression)


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one platform; ``config`` is the part that containers inherit."""

    layers: Sequence[Layer]
    config: Mapping[str, Any] = field(default_factory=dict)
    oci: bool = False
    architecture: str = "amd64"
    variant: str = ""

    def config_blob(self) -> bytes:
        """Return the image config; its digest is the image's ID."""
        platform = {"architecture": self.architecture, "os": "linux"} | (
            {"variant": self.variant} if self.variant else {}
        )
        created = "2024-01-02T03:04:05.678901234Z"
        history = [{"created": created, "created_by": f"layer {number}"} for number in range(len(self.layers))]
        rootfs = {"type": "layers", "diff_ids": [each.diff_id for each in self.layers]}
        return _json(
            {"created": created, **platform, "config": dict(self.config), "rootfs": rootfs, "history": history}
        )

    @property
    def id(self) -> str:
        """What ``docker images`` calls its ID."""
        return sha256(self.config_blob())

    def manifest(self) -> bytes:
        """Return the manifest."""
        config = self.config_blob()
        media_type = OCI_CONFIG if self.oci else DOCKER_CONFIG
        layers = [descriptor(LAYER_TYPES[self.oci, each.compression], each.blob, each.size) for each in self.layers]
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": self.media_type,
                "config": descriptor(media_type, config, len(config)),
                "layers": layers,
            }
        )

    @property
    def media_type(self) -> str:
        """The manifest's media type."""
        return OCI_MANIFEST if self.oci else DOCKER_MANIFEST


def descriptor(media_type: str, content: bytes | Path, size: int) -> dict[str, Any]:
    """Return a descriptor of ``content``."""
    return {"mediaType": media_type, "digest": sha256(content), "size": size}


def push(registry: Registry, repository: str, tag: str, image: Image) -> str:
    """Push ``image`` and return the digest of its manifest."""
    push_blob(registry, repository, image.config_blob())
    for each in image.layers:
        push_blob(registry, repository, each.blob)
    return push_manifest(registry, repository, tag, image.media_type, image.manifest())


def push_index(registry: Registry, repository: str, tag: str, images: Sequence[Image], *, oci: bool = False) -> str:
    """Push one image per platform under one name and return the digest of the list."""
    manifests = []
    for image in images:
        digest = push(registry, repository, f"{tag}-{image.architecture}{image.variant}", image)
        platform = {"architecture": image.architecture, "os": "linux"} | (
            {"variant": image.variant} if image.variant else {}
        )
        size = len(image.manifest())
        manifests.append({"mediaType": image.media_type, "digest": digest, "size": size, "platform": platform})
    media_type = OCI_INDEX if oci else DOCKER_LIST
    index = _json({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests})
    return push_manifest(registry, repository, tag, media_type, index)


def push_blob(registry: Registry, repository: str, blob: bytes | Path) -> str:
    """Upload ``blob`` unless the registry has it; return its digest."""
    digest = sha256(blob)
    base = f"{registry.url}/v2/{repository}/blobs"
    with registry.session() as session:
        if session.head(f"{base}/{digest}", timeout=60).status_code == 200:
            return digest
        begun = session.post(f"{base}/uploads/", timeout=60)
        begun.raise_for_status()
        location = urljoin(registry.url, begun.headers["Location"])
        target = f"{location}{'&' if urlsplit(location).query else '?'}{urlencode({'digest': digest})}"
        if isinstance(blob, bytes):
            session.put(target, data=blob, timeout=60).raise_for_status()
        else:
            with blob.open("rb") as file:
                session.put(target, data=file, timeout=600).raise_for_status()
    return digest


def push_manifest(registry: Registry, repository: str, tag: str, media_type: str, content: bytes) -> str:
    """Upload a manifest as it is, under ``tag``; return its digest."""
    url = f"{registry.url}/v2/{repository}/manifests/{tag}"
    with registry.session() as session:
        session.put(url, data=content, headers={"Content-Type": media_type}, timeout=60).raise_for_status()
    return sha256(content)


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
