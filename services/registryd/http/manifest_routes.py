"""``/v2/<name>/manifests/<reference>``, ``/v2/<name>/referrers/<digest>`` and the lists of repositories and tags.

The lists are ``/v2/``, ``/v2/_catalog``, ``/v2/<name>/tags/list`` and, of an older API, ``/v1/search``.
"""

import json
from typing import Final

from aiohttp import web

from registryd.http.call import Call, json_answer, parse_digest, parse_target
from registryd.repositories.document import MAX_MANIFEST_BYTES
from registryd.repositories.model import Page, Referrer
from sampan.json_types import JsonObject
from sampan.log import log
from sampan.oci.descriptor import OCI_INDEX

# Docker's.
_DEFAULT_RESULTS: Final = 25
_MAX_RESULTS: Final = 100


async def get_base(_call: Call) -> web.StreamResponse:
    """Say that this is a registry, to a client that may use it."""
    return json_answer({})


async def get_catalog(call: Call) -> web.StreamResponse:
    """List the repositories."""
    last, most = call.page()
    page = await call.parts.manifests.repositories(last, most)
    return json_answer({"repositories": page.items}, _link(call, page, most))


async def search(call: Call) -> web.StreamResponse:
    """Find repositories by a part of their names, for ``docker search``; nobody has described or starred them."""
    term = call.request.query.get("q", "")
    everything = await call.parts.manifests.repositories("", None)
    found = [name for name in everything.items if term.lower() in name][: _results(call)]
    results = [{"name": name, "description": "", "star_count": 0, "is_official": False} for name in found]
    return json_answer({"num_results": len(results), "query": term, "results": results})


def _results(call: Call) -> int:
    text = call.request.query.get("n", "")
    return min(int(text), _MAX_RESULTS) if text.isascii() and text.isdigit() and len(text) < 10 else _DEFAULT_RESULTS


async def get_tags(call: Call) -> web.StreamResponse:
    """List a repository's tags."""
    last, most = call.page()
    page = await call.parts.manifests.tags(call.repository, last, most)
    return json_answer({"name": call.repository, "tags": page.items}, _link(call, page, most))


def _link(call: Call, page: Page, most: int | None) -> dict[str, str]:
    return call.next_page(n=str(most), last=page.items[-1]) if page.more else {}


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
    entries: list[JsonObject] = []
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


def _descriptor(referrer: Referrer) -> JsonObject:
    own = referrer.descriptor
    entry: JsonObject = {"mediaType": own.media_type, "digest": own.digest, "size": own.size}
    if referrer.artifact_type:
        entry["artifactType"] = referrer.artifact_type
    if referrer.annotations:
        entry["annotations"] = dict(referrer.annotations)
    return entry
