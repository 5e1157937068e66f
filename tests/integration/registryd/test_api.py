"""The registry's HTTP API, as the OCI distribution spec 1.1 has it, over a real content store."""

import json
import os
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from tests.support import images
from tests.support.images import OCI_INDEX, OCI_MANIFEST, sha256
from tests.support.private_registry import PrivateRegistry, content_store, private_registry

NOWHERE = "sha256:" + "0" * 64
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRegistry]:
    directory = tmp_path_factory.mktemp("registryd")
    with content_store(directory) as layout, private_registry(layout, directory) as running:
        yield running


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository of the test's own."""
    return f"tests/{request.node.name.split('[')[0].removeprefix('test_').lower()}"


def code_of(answer: requests.Response) -> str:
    (error,) = answer.json()["errors"]
    assert error["message"]
    return str(error["code"])


def push_blob(served: PrivateRegistry, name: str, data: bytes) -> dict[str, Any]:
    images.push_blob(served.registry, name, data)
    return {"mediaType": "application/octet-stream", "digest": sha256(data), "size": len(data)}


def put(
    http: requests.Session, served: PrivateRegistry, name: str, reference: str, document: object, media_type: str
) -> requests.Response:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return http.put(served.url(f"{name}/manifests/{reference}"), data=data, headers={"Content-Type": media_type})


def artifact(served: PrivateRegistry, name: str, content: bytes, **more: object) -> dict[str, Any]:
    config = push_blob(served, name, b"{}") | {"mediaType": EMPTY_TYPE}
    layer = push_blob(served, name, content) | {"mediaType": "text/plain"}
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": [layer], **more}


def test_base_says_that_this_is_a_registry(served: PrivateRegistry, http: requests.Session) -> None:
    for url in (served.url(""), served.registry.url + "/v2"):
        answer = http.get(url)
        assert (answer.status_code, answer.json()) == (200, {})
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_blob_is_pushed_in_one_request(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    data = b"all at once"
    url = served.url(f"{name}/blobs/uploads/?digest={sha256(data)}")
    answer = http.post(url, data=data, headers={"Content-Type": "application/octet-stream"})
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/v2/{name}/blobs/{sha256(data)}"
    assert http.get(served.url(answer.headers["Location"])).content == data


def test_blob_is_pushed_by_post_and_put(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    data = os.urandom(3_000_000)
    begun = http.post(served.url(f"{name}/blobs/uploads/"))
    assert (begun.status_code, begun.headers["Range"], begun.headers["Content-Length"]) == (202, "0-0", "0")
    done = http.put(served.url(begun.headers["Location"]), params={"digest": sha256(data)}, data=data)
    assert done.status_code == 201
    assert done.headers["Docker-Content-Digest"] == sha256(data)
    assert http.get(served.url(done.headers["Location"])).content == data
    assert http.get(served.url(begun.headers["Location"])).status_code == 404


@pytest.mark.parametrize("last_in_put", [False, True])
def test_blob_is_pushed_in_chunks(
    served: PrivateRegistry, http: requests.Session, name: str, last_in_put: bool
) -> None:
    chunks = [os.urandom(1_500_000), b"x", os.urandom(70_000)]
    data = b"".join(chunks)
    location = http.post(served.url(f"{name}/blobs/uploads/")).headers["Location"]
    begin = 0
    for chunk in chunks[: 2 if last_in_put else 3]:
        span = f"{begin}-{begin + len(chunk) - 1}"
        answer = http.patch(served.url(location), data=chunk, headers={"Content-Range": span})
        begin += len(chunk)
        assert (answer.status_code, answer.headers["Range"]) == (202, f"0-{begin - 1}")
        location = answer.headers["Location"]
        state = http.get(served.url(location))
        assert (state.status_code, state.headers["Range"]) == (204, f"0-{begin - 1}")
    rest = chunks[2] if last_in_put else b""
    headers = {"Content-Range": f"{begin}-{len(data) - 1}"} if rest else {}
    done = http.put(served.url(location), params={"digest": sha256(data)}, data=rest, headers=headers)
    assert done.status_code == 201
    assert http.get(served.url(done.headers["Location"])).content == data


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_chunk_out_of_order_is_refused_and_says_where_to_go_on(
    served: PrivateRegistry, http: requests.Session, name: str, method: str
) -> None:
    location = http.post(served.url(f"{name}/blobs/uploads/")).headers["Location"]
    http.patch(served.url(location), data=b"12345", headers={"Content-Range": "0-4"})
    for span in ("0-4", "6-10"):
        url = served.url(location) + (f"?digest={sha256(b'1234512345')}" if method == "PUT" else "")
        answer = http.request(method, url, data=b"12345", headers={"Content-Range": span})
        assert (answer.status_code, answer.headers["Range"]) == (416, "0-4")
        assert (answer.headers["Location"], code_of(answer)) == (location, "RANGE_INVALID")
    assert http.patch(served.url(location), data=b"6", headers={"Content-Range": "5-5"}).status_code == 202


def test_chunk_of_another_length_than_its_range_is_refused(
    served: PrivateRegistry, http: requests.Session, name: str
) -> None:
    location = http.post(served.url(f"{name}/blobs/uploads/")).headers["Location"]
    answer = http.patch(served.url(location), data=b"123", headers={"Content-Range": "0-4"})
    assert (answer.status_code, code_of(answer)) == (400, "BLOB_UPLOAD_INVALID")
    answer = http.patch(served.url(location), data=b"123", headers={"Content-Range": "five"})
    assert (answer.status_code, code_of(answer)) == (400, "BLOB_UPLOAD_INVALID")


def test_wrong_digest_ends_the_upload(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    for url in (
        http.post(served.url(f"{name}/blobs/uploads/")).headers["Location"] + f"?digest={NOWHERE}",
        f"{name}/blobs/uploads/?digest={NOWHERE}",
    ):
        answer = http.request("PUT" if url.startswith("/") else "POST", served.url(url), data=b"other")
        assert (answer.status_code, code_of(answer)) == (400, "DIGEST_INVALID")
    assert http.head(served.url(f"{name}/blobs/{sha256(b'other')}")).status_code == 404
    assert sha256(b"other") not in served.stored()


@pytest.mark.parametrize("digest", ["", "sha256:short", "md5:" + "0" * 32, "sha256:" + "A" * 64])
def test_what_is_no_digest_is_refused(served: PrivateRegistry, http: requests.Session, name: str, digest: str) -> None:
    location = http.post(served.url(f"{name}/blobs/uploads/")).headers["Location"]
    answer = http.put(served.url(location), params={"digest": digest} if digest else {}, data=b"x")
    assert (answer.status_code, code_of(answer)) == (400, "DIGEST_INVALID")
    if digest:
        answer = http.get(served.url(f"{name}/blobs/{digest}"))
        assert (answer.status_code, code_of(answer)) == (400, "DIGEST_INVALID")


def test_upload_is_cancelled(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    location = http.post(served.url(f"{name}/blobs/uploads/")).headers["Location"]
    http.patch(served.url(location), data=b"x")
    assert http.delete(served.url(location)).status_code == 204
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        answer = http.request(method, served.url(location), params={"digest": sha256(b"x")}, data=b"x")
        assert (answer.status_code, code_of(answer)) == (404, "BLOB_UPLOAD_UNKNOWN")


def test_upload_belongs_to_its_repository(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    location = http.post(served.url(f"{name}/blobs/uploads/")).headers["Location"]
    assert http.get(served.url(location.replace(name, f"{name}/other"))).status_code == 404


def test_upload_that_breaks_off_goes_on_where_it_was(
    served: PrivateRegistry, http: requests.Session, name: str
) -> None:
    data = os.urandom(2_500_000)
    location = http.post(served.url(f"{name}/blobs/uploads/")).headers["Location"]
    host, port = served.address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data[:2_000_000])
        while http.get(served.url(location)).headers["Range"] == "0-0":
            pass
    arrived = int(http.get(served.url(location)).headers["Range"].removeprefix("0-")) + 1
    assert 0 < arrived <= 2_000_000
    rest = data[arrived:]
    headers = {"Content-Range": f"{arrived}-{len(data) - 1}"}
    # The broken connection may still hold the upload for a moment.
    while (answer := http.patch(served.url(location), data=rest, headers=headers)).status_code == 503:
        pass
    if answer.status_code == 416:  # its last piece came after we had asked
        arrived = int(answer.headers["Range"].removeprefix("0-")) + 1
        answer = http.patch(served.url(location), data=data[arrived:])
    assert answer.status_code == 202
    assert http.put(served.url(location), params={"digest": sha256(data)}).status_code == 201


def test_client_that_waits_to_be_told_to_go_on_is_told(
    served: PrivateRegistry, http: requests.Session, name: str
) -> None:
    location = http.post(served.url(f"{name}/blobs/uploads/")).headers["Location"]
    with socket.create_connection(served.address.split(":")) as connection:  # type: ignore[arg-type]  # getaddrinfo takes text
        connection.settimeout(10)
        head = f"PUT {location}?digest={sha256(b'hello')} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"hello")
        assert connection.recv(100).startswith(b"HTTP/1.1 201 ")


def test_blob_has_the_headers_that_clients_look_at(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    blob = push_blob(served, name, b"0123456789")
    url = served.url(f"{name}/blobs/{blob['digest']}")
    for answer in (http.get(url), http.head(url)):
        assert answer.status_code == 200
        assert answer.headers["Content-Length"] == "10"
        assert answer.headers["Docker-Content-Digest"] == blob["digest"]
        assert answer.headers["Accept-Ranges"] == "bytes"
    assert http.head(url).content == b""
    assert http.get(url, headers={"If-None-Match": f'"{blob["digest"]}"'}).status_code == 304


@pytest.mark.parametrize(
    ("wanted", "content", "span"),
    [
        ("bytes=0-3", b"0123", "0-3"),
        ("bytes=7-", b"789", "7-9"),
        ("bytes=-2", b"89", "8-9"),
        ("bytes=4-100", b"456789", "4-9"),
        ("bytes=9-9", b"9", "9-9"),
    ],
)
def test_part_of_a_blob_is_sent(
    served: PrivateRegistry, http: requests.Session, name: str, wanted: str, content: bytes, span: str
) -> None:
    blob = push_blob(served, name, b"0123456789")
    answer = http.get(served.url(f"{name}/blobs/{blob['digest']}"), headers={"Range": wanted})
    assert (answer.status_code, answer.content) == (206, content)
    assert answer.headers["Content-Range"] == f"bytes {span}/10"


def test_range_behind_the_end_is_refused(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    blob = push_blob(served, name, b"0123456789")
    answer = http.get(served.url(f"{name}/blobs/{blob['digest']}"), headers={"Range": "bytes=10-"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */10")


def test_empty_blob_is_a_blob(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    blob = push_blob(served, name, b"")
    answer = http.get(served.url(f"{name}/blobs/{blob['digest']}"))
    assert (answer.status_code, answer.content) == (200, b"")


def test_unknown_things_have_their_codes(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    for path, code in (
        (f"{name}/blobs/{NOWHERE}", "BLOB_UNKNOWN"),
        (f"{name}/manifests/{NOWHERE}", "MANIFEST_UNKNOWN"),
        (f"{name}/manifests/none", "MANIFEST_UNKNOWN"),
        (f"{name}/tags/list", "NAME_UNKNOWN"),
        (f"{name}/blobs/uploads/none", "BLOB_UPLOAD_UNKNOWN"),
        ("nothing", "NOT_FOUND"),
    ):
        answer = http.get(served.url(path))
        assert (answer.status_code, code_of(answer)) == (404, code)
        assert http.head(served.url(path)).status_code in (404, 405)
    for path in (f"{name}/blobs/{NOWHERE}", f"{name}/manifests/{NOWHERE}", f"{name}/manifests/none"):
        assert http.delete(served.url(path)).status_code == 404
    assert http.get(served.registry.url + "/").status_code == 404


@pytest.mark.parametrize("bad", ["UPPER", "a//b", "-a", "a/../b", "a_", "x" * 256])
def test_invalid_repository_is_refused(served: PrivateRegistry, bad: str) -> None:
    # Not by requests, which would tidy the path up.
    with socket.create_connection(served.address.split(":")) as connection:  # type: ignore[arg-type]  # getaddrinfo takes text
        connection.sendall(f"GET /v2/{bad}/tags/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"NAME_INVALID"' in answer


def test_invalid_tag_is_refused(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    for tag in (".x", "a b", "x" * 129):
        answer = put(http, served, name, tag, {}, OCI_MANIFEST)
        assert (answer.status_code, code_of(answer)) == (400, "TAG_INVALID")


def test_blob_is_mounted_from_another_repository(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    blob = push_blob(served, name, b"to be mounted")
    for query, target in ((f"&from={name}", "a"), ("", "b")):
        url = served.url(f"{name}/{target}/blobs/uploads/?mount={blob['digest']}{query}")
        answer = http.post(url)
        assert answer.status_code == 201
        assert answer.headers["Location"] == f"/v2/{name}/{target}/blobs/{blob['digest']}"
        assert http.get(served.url(answer.headers["Location"])).content == b"to be mounted"


def test_mount_of_what_is_not_there_begins_an_upload(
    served: PrivateRegistry, http: requests.Session, name: str
) -> None:
    blob = push_blob(served, name, b"only here")
    for mount, source in ((NOWHERE, name), (blob["digest"], f"{name}/empty")):
        answer = http.post(served.url(f"{name}/x/blobs/uploads/?mount={mount}&from={source}"))
        assert answer.status_code == 202
        assert "/blobs/uploads/" in answer.headers["Location"]


def test_blob_of_another_repository_is_not_served(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    blob = push_blob(served, name, b"mine")
    assert http.head(served.url(f"{name}/other/blobs/{blob['digest']}")).status_code == 404


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


def test_blob_that_nothing_needs_is_deleted(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    blob = push_blob(served, name, b"to be deleted " + name.encode())
    assert blob["digest"] in served.stored()
    assert http.delete(served.url(f"{name}/blobs/{blob['digest']}")).status_code == 202
    assert http.get(served.url(f"{name}/blobs/{blob['digest']}")).status_code == 404
    assert blob["digest"] not in served.stored()


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


def test_method_that_is_not_there_is_refused(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    answer = http.post(served.url(f"{name}/tags/list"))
    assert (answer.status_code, code_of(answer), answer.headers["Allow"]) == (405, "UNSUPPORTED", "GET")


def test_upload_under_a_name_with_a_word_of_the_api_in_it(served: PrivateRegistry, http: requests.Session) -> None:
    name = "a/blobs/manifests/tags"
    put(http, served, name, "x", artifact(served, name, b"x"), OCI_MANIFEST)
    assert http.get(served.url(f"{name}/tags/list")).json()["tags"] == ["x"]


def test_location_needs_no_name_of_the_server(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    """Behind a proxy the registry does not know what it is called."""
    location = http.post(served.url(f"{name}/blobs/uploads/")).headers["Location"]
    assert urlsplit(location).netloc == ""
