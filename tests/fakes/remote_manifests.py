"""Manifests at a registry that is not there: a part of ``fakes.engine.FakeImages``."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sampan.api.containerd.types import types_pb2
from sampan.api.image.v1 import images_pb2, images_pb2_grpc
from sampan.errors import InvalidArgumentError, NotFoundError, ResourceExhaustedError
from sampan.oci.descriptor import INDEXES, OCI_CONFIG, OCI_MANIFEST
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference, parse_reference

_CONFIG = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": []}}).encode()


@dataclass
class FakeRemoteManifests(images_pb2_grpc.ImagesServicer):
    """Every image of ``remote`` has a manifest there; what is put is kept beside them."""

    remote: dict[str, images_pb2.Image] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # media type and content, by whole reference
    mounted: list[str] = field(default_factory=list)  # repositories, of manifests that were put
    insecure: list[bool] = field(default_factory=list)  # of each call

    def _there(self) -> Mapping[str, tuple[str, bytes]]:
        config = {"mediaType": OCI_CONFIG, "digest": Digest.of(_CONFIG), "size": len(_CONFIG)}
        made = {
            str(parse_reference(name)): (
                OCI_MANIFEST,
                json.dumps({"schemaVersion": 2, "config": config, "layers": [], "annotations": {"of": name}}).encode(),
            )
            for name in self.remote
        }
        return {**made, **self.manifests}

    def _find(self, wanted: Reference) -> tuple[str, bytes]:
        for name, found in self._there().items():
            repository = parse_reference(name).name
            if name == str(wanted) or (repository == wanted.name and Digest.of(found[1]) == wanted.digest):
                return found
        raise NotFoundError("manifest unknown: manifest unknown")

    async def GetManifest(self, request: images_pb2.GetManifestRequest, context: Any) -> images_pb2.RemoteManifest:
        self.insecure.append(request.insecure)
        media_type, content = self._find(parse_reference(request.reference).with_default_tag())
        target = types_pb2.Descriptor(media_type=media_type, digest=Digest.of(content), size=len(content))
        config = b"" if media_type in INDEXES else _CONFIG
        return images_pb2.RemoteManifest(target=target, content=content, config=config)

    async def Referrers(
        self, request: images_pb2.ReferrersRequest, context: Any
    ) -> AsyncIterator[images_pb2.ReferrersResponse]:
        subject = parse_reference(request.reference)
        if subject.digest is None:
            raise InvalidArgumentError(f"{subject.familiar}: referrers are those of a digest")
        found = []
        for name, (media_type, content) in self._there().items():
            document = json.loads(content)
            about = document.get("subject", {}).get("digest")
            if parse_reference(name).name == subject.name and about == subject.digest:
                own = types_pb2.Descriptor(media_type=media_type, digest=Digest.of(content), size=len(content))
                found.append(images_pb2.Referrer(descriptor=own, artifact_type=document.get("artifactType", "")))
        yield images_pb2.ReferrersResponse(referrers=found)

    async def ReadRemote(self, request: images_pb2.ReadRemoteRequest, context: Any) -> images_pb2.ReadRemoteResponse:
        if request.descriptor.size > 8 << 20:
            raise ResourceExhaustedError(f"{request.descriptor.digest} has {request.descriptor.size} bytes")
        wanted = replace(parse_reference(request.repository), digest=Digest.parse(request.descriptor.digest))
        return images_pb2.ReadRemoteResponse(content=self._find(wanted)[1])

    async def PutManifest(self, request: images_pb2.PutManifestRequest, context: Any) -> images_pb2.PutManifestResponse:
        self.insecure.append(request.insecure)
        reference, digest = parse_reference(request.reference).with_default_tag(), Digest.of(request.content)
        if reference.digest not in (None, digest):
            raise InvalidArgumentError(f"{reference.familiar}: the manifest has the digest {digest}")
        if (request.media_type in INDEXES) != ("manifests" in json.loads(request.content)):
            raise InvalidArgumentError(f"{reference.familiar}: is not a manifest")
        if request.mount_from:
            self.mounted.append(request.mount_from)
        self.manifests[str(reference)] = request.media_type, request.content
        return images_pb2.PutManifestResponse(digest=digest)
