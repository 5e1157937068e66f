"""``/v2/<name>/manifests/<reference>`` and ``/v2/<name>/referrers/<digest>``."""

import json
from typing import Any, Final

from aiohttp import web

from registryd.http.call import Call, json_answer
from registryd.http.names import parse_digest, parse_target
from registryd.repositories.document import MAX_MANIFEST_BYTES
from registryd.repositories.model import Referrer
from sampan.log import log
from sampan.oci.descriptor import OCI_INDEX

# A list of referrers is an index, and no larger than one may be.
_MAX_PAGE_BYTES: Final = MAX_MANIFEST_BYTES - (64 << 10)


async def get_manifest(call: Call) -> web.StreamResponse:
    """Send a manifest as it was pushed."""
    descriptor, data = await call.parts.manifests.load(call.repository, parse_target(call.args["reference"]))
    headers = {
        "Docker-Content-Digest": str(descriptor.digest),
        "Content-Type": descriptor.media_type,
        "ETag": f'"{descriptor.digest}"',
    }
    if call.request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    if not call.is_head:
        call.parts.metrics.sent.inc(len(data))
    return web.Response(body=data, headers=headers)  # for HEAD aiohttp sends the length alone


async def put_manifest(call: Call) -> web.StreamResponse:
    """Store a manifest."""
    target = parse_target(call.args["reference"])
    media_type = call.request.headers.get("Content-Type", "").partition(";")[0].strip()
    data = await call.body(MAX_MANIFEST_BYTES)
    manifest = await call.parts.manifests.put(call.repository, target, media_type, data)
    digest = manifest.descriptor.digest
    log.info("manifest stored", repository=call.repository, reference=str(target), digest=digest)
    headers = {"Location": f"/v2/{call.repository}/manifests/{digest}", "Docker-Content-Digest": str(digest)}
    if manifest.subject is not None:
        headers["OCI-Subject"] = str(manifest.subject)
    return web.Response(status=201, headers=headers)


async def delete_manifest(call: Call) -> web.StreamResponse:
    """Take a tag away, or remove a manifest."""
    target = parse_target(call.args["reference"])
    await call.parts.manifests.delete(call.repository, target)
    log.info("manifest removed", repository=call.repository, reference=str(target))
    return web.Response(status=202)


async def get_referrers(call: Call) -> web.StreamResponse:
    """List the manifests that are about one, as an index."""
    subject = parse_digest(call.args["digest"])
    artifact_type = call.request.query.get("artifactType", "")
    found = await call.parts.manifests.referrers(call.repository, subject, artifact_type)
    headers = {"OCI-Filters-Applied": "artifactType"} if artifact_type else {}
    last, size = call.request.query.get("last", ""), 0
    entries: list[dict[str, Any]] = []
    for referrer in found:
        if referrer.descriptor.digest <= last:
            continue
        entry = _descriptor(referrer)
        size += len(json.dumps(entry))
        if entries and size > _MAX_PAGE_BYTES:
            query = {"artifactType": artifact_type} if artifact_type else {}
            headers |= call.next_page(last=str(entries[-1]["digest"]), **query)
            break
        entries.append(entry)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return json_answer(index, headers, media_type=OCI_INDEX)


def _descriptor(referrer: Referrer) -> dict[str, Any]:
    own = referrer.descriptor
    entry: dict[str, Any] = {"mediaType": own.media_type, "digest": own.digest, "size": own.size}
    if referrer.artifact_type:
        entry["artifactType"] = referrer.artifact_type
    if referrer.annotations:
        entry["annotations"] = dict(referrer.annotations)
    return entry
