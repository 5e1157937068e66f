"""Manifests, tags, lists and referrers, as the OCI distribution spec 1.1 has them, over a real content store."""

import json

import requests

from tests.integration.registryd.asking import EMPTY_TYPE, artifact, code_of, put
from tests.support import images
from tests.support.images import OCI_INDEX, OCI_MANIFEST, sha256
from tests.support.private_registry import PrivateRegistry

NOWHERE = "sha256:" + "0" * 64


def test_manifest_comes_back_as_it_was_pushed(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    data = json.dumps(artifact(served, name, b"x"), indent=3).encode()
    answer = put(http, served, name, "v1", data, OCI_MANIFEST)
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v2/{name}/manifests/{sha256(data)}"
    assert answer.headers["Docker-Content-Digest"] == sha256(data)
    for reference in ("v1", sha256(data)):
        url = served.url(f"{name}/manifests/{reference}")
        for found in (http.get(url), http.head(url)):
            assert found.status_code == 200
            assert found.headers["Content-Type"] == OCI_MANIFEST
            assert found.headers["Docker-Content-Digest"] == sha256(data)
            assert found.headers["Content-Length"] == str(len(data))
        assert http.get(url).content == data
    assert http.get(served.url(f"{name}/blobs/{sha256(data)}")).content == data


def test_index_is_held_with_all_its_platforms(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    layer = images.layer(images.tar(images.Entry("f", b"f")))
    many = [images.Image([layer], oci=True, architecture=which) for which in ("amd64", "arm64")]
    digest = images.push_index(served.registry, name, "all", many, oci=True)
    index = http.get(served.url(f"{name}/manifests/all"))
    assert (index.headers["Content-Type"], sha256(index.content)) == (OCI_INDEX, digest)
    for entry in index.json()["manifests"]:
        assert http.get(served.url(f"{name}/manifests/{entry['digest']}")).status_code == 200
        refused = http.delete(served.url(f"{name}/manifests/{entry['digest']}"))
        assert (refused.status_code, code_of(refused)) == (405, "UNSUPPORTED")
    blob = many[0].layers[0].blob
    assert http.delete(served.url(f"{name}/blobs/{sha256(blob)}")).status_code == 405
    assert http.delete(served.url(f"{name}/manifests/{digest}")).status_code == 202
    assert http.get(served.url(f"{name}/manifests/all")).status_code == 404
    assert (
        http.delete(served.url(f"{name}/manifests/{many[1].architecture and sha256(many[1].manifest())}")).status_code
        == 202
    )


def test_manifest_that_refers_to_what_is_not_there_is_refused(
    served: PrivateRegistry, http: requests.Session, name: str
) -> None:
    whole = artifact(served, name, b"x")
    for part in (
        {"config": whole["config"] | {"digest": NOWHERE}},
        {"layers": [whole["layers"][0] | {"digest": NOWHERE}]},
    ):
        answer = put(http, served, name, "bad", whole | part, OCI_MANIFEST)
        assert (answer.status_code, code_of(answer)) == (400, "MANIFEST_BLOB_UNKNOWN")
        assert NOWHERE in answer.json()["errors"][0]["message"]
    child = {"mediaType": OCI_MANIFEST, "digest": NOWHERE, "size": 2}
    answer = put(http, served, name, "bad", {"schemaVersion": 2, "manifests": [child]}, OCI_INDEX)
    assert (answer.status_code, code_of(answer)) == (400, "MANIFEST_BLOB_UNKNOWN")
    other_size = whole | {"config": whole["config"] | {"size": 99}}
    answer = put(http, served, name, "bad", other_size, OCI_MANIFEST)
    assert (answer.status_code, code_of(answer)) == (400, "MANIFEST_INVALID")
    assert http.get(served.url(f"{name}/manifests/bad")).status_code == 404


def test_what_is_no_manifest_is_refused(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    for document, media_type in (
        (b"not json", OCI_MANIFEST),
        (b"[" * 100_000, OCI_MANIFEST),
        ({"schemaVersion": 1}, OCI_MANIFEST),
        ({"schemaVersion": 2, "mediaType": OCI_INDEX}, OCI_MANIFEST),
        ({"schemaVersion": 2, "config": {}, "layers": []}, OCI_MANIFEST),
        (artifact(served, name, b"x"), "text/plain"),
        (artifact(served, name, b"x"), ""),
    ):
        answer = put(http, served, name, "bad", document, media_type)
        assert (answer.status_code, code_of(answer)) == (400, "MANIFEST_INVALID"), document


def test_manifest_pushed_by_another_digest_is_refused(
    served: PrivateRegistry, http: requests.Session, name: str
) -> None:
    answer = put(http, served, name, NOWHERE, artifact(served, name, b"x"), OCI_MANIFEST)
    assert (answer.status_code, code_of(answer)) == (400, "DIGEST_INVALID")


def test_manifest_too_large_is_refused(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    big = artifact(served, name, b"x", annotations={"a": "x" * (4 << 20)})
    answer = put(http, served, name, "big", big, OCI_MANIFEST)
    assert (answer.status_code, code_of(answer)) == (413, "SIZE_INVALID")
    near = artifact(served, name, b"x", annotations={"a": "x" * (4 << 20 - 1)})
    assert put(http, served, name, "near", near, OCI_MANIFEST).status_code == 201


def test_tag_moves_and_is_taken_away(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    first, second = (json.dumps(artifact(served, name, content)).encode() for content in (b"1", b"2"))
    for data in (first, second):
        put(http, served, name, "t", data, OCI_MANIFEST)
    assert http.get(served.url(f"{name}/manifests/t")).content == second
    assert http.get(served.url(f"{name}/manifests/{sha256(first)}")).content == first
    assert http.delete(served.url(f"{name}/manifests/t")).status_code == 202
    assert http.get(served.url(f"{name}/manifests/t")).status_code == 404
    assert http.get(served.url(f"{name}/manifests/{sha256(second)}")).status_code == 200
    assert http.delete(served.url(f"{name}/manifests/{sha256(second)}")).status_code == 202
    assert http.get(served.url(f"{name}/manifests/{sha256(second)}")).status_code == 404


def test_tags_are_listed_page_by_page(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    document = artifact(served, name, b"x")
    for tag in ("c", "a", "e", "b", "d"):
        put(http, served, name, tag, document, OCI_MANIFEST)
    base = served.url(f"{name}/tags/list")
    assert http.get(base).json() == {"name": name, "tags": ["a", "b", "c", "d", "e"]}
    assert http.get(base, params={"n": 0}).json()["tags"] == []
    assert http.get(base, params={"n": "2", "last": "b"}).json()["tags"] == ["c", "d"]
    assert http.get(base, params={"last": "d"}).json()["tags"] == ["e"]
    seen, answer = [], http.get(base, params={"n": 2})
    while True:
        seen.append(answer.json()["tags"])
        if "next" not in answer.links:
            break
        answer = http.get(served.url(answer.links["next"]["url"]))
    assert seen == [["a", "b"], ["c", "d"], ["e"]]
    answer = http.get(base, params={"n": "x"})
    assert (answer.status_code, code_of(answer)) == (400, "PAGINATION_NUMBER_INVALID")


def test_repositories_are_listed_page_by_page(served: PrivateRegistry, http: requests.Session) -> None:
    for name in ("zz/one", "zz/three", "zz/two"):
        put(http, served, name, "x", artifact(served, name, b"x"), OCI_MANIFEST)
    answer = http.get(served.url("_catalog"), params={"n": "2", "last": "zz"})
    assert answer.json() == {"repositories": ["zz/one", "zz/three"]}
    following = http.get(served.url(answer.links["next"]["url"]))
    assert following.json() == {"repositories": ["zz/two"]}
    assert "next" not in following.links


def test_referrers_are_listed_by_subject_and_type(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    data = json.dumps(artifact(served, name, b"subject")).encode()
    subject = {"mediaType": OCI_MANIFEST, "digest": sha256(data), "size": len(data)}
    url = served.url(f"{name}/referrers/{subject['digest']}")
    empty = http.get(url)
    assert (empty.status_code, empty.headers["Content-Type"]) == (200, OCI_INDEX)
    assert empty.json() == {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}

    sbom = artifact(served, name, b"s", subject=subject, artifactType="test/sbom", annotations={"k": "v"})
    plain = artifact(served, name, b"p", subject=subject)
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "subject": subject, "artifactType": "test/i"}
    for document, media_type in ((sbom, OCI_MANIFEST), (plain, OCI_MANIFEST), (index, OCI_INDEX)):
        own = sha256(json.dumps(document).encode())
        answer = put(http, served, name, own, document, media_type)
        # The subject need not be here yet.
        assert (answer.status_code, answer.headers["OCI-Subject"]) == (201, subject["digest"])
    put(http, served, name, "subject", data, OCI_MANIFEST)

    listed = {entry["artifactType"]: entry for entry in http.get(url).json()["manifests"]}
    assert listed.keys() == {"test/sbom", EMPTY_TYPE, "test/i"}
    assert listed["test/sbom"]["annotations"] == {"k": "v"}
    assert listed["test/i"]["mediaType"] == OCI_INDEX
    assert listed["test/sbom"]["size"] == len(json.dumps(sbom))
    only = http.get(url, params={"artifactType": "test/sbom"})
    assert only.headers["OCI-Filters-Applied"] == "artifactType"
    assert [entry["digest"] for entry in only.json()["manifests"]] == [listed["test/sbom"]["digest"]]

    assert http.delete(served.url(f"{name}/manifests/{listed['test/sbom']['digest']}")).status_code == 202
    assert len(http.get(url).json()["manifests"]) == 2
    answer = http.get(served.url(f"{name}/referrers/x"))
    assert (answer.status_code, code_of(answer)) == (400, "DIGEST_INVALID")


def test_long_list_of_referrers_comes_in_pages(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    subject = {"mediaType": OCI_MANIFEST, "digest": NOWHERE, "size": 2}
    for number in range(6):
        document = artifact(served, name, b"x", subject=subject, annotations={"n": f"{number}" * 1_000_000})
        assert put(http, served, name, f"r{number}", document, OCI_MANIFEST).status_code == 201
    seen, url = [], served.url(f"{name}/referrers/{NOWHERE}")
    while url:
        answer = http.get(url)
        assert len(answer.content) < 4 << 20
        seen += [entry["annotations"]["n"][0] for entry in answer.json()["manifests"]]
        url = served.url(answer.links["next"]["url"]) if "next" in answer.links else ""
    assert sorted(seen) == list("012345")


def test_layer_that_may_not_be_distributed_need_not_be_here(
    served: PrivateRegistry, http: requests.Session, name: str
) -> None:
    foreign = {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "digest": NOWHERE,
        "size": 5,
        "urls": ["nowhere"],
    }
    document = artifact(served, name, b"x")
    document["layers"].append(foreign)
    assert put(http, served, name, "w", document, OCI_MANIFEST).status_code == 201
