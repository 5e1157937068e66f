"""Blobs and uploads, as the OCI distribution spec 1.1 has them, over a real content store."""

import os
import socket
from urllib.parse import urlsplit

import pytest
import requests

from tests.integration.registryd.asking import artifact, code_of, push_blob, put
from tests.support.images import OCI_MANIFEST, sha256
from tests.support.private_registry import PrivateRegistry

NOWHERE = "sha256:" + "0" * 64


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
        connection.settimeout(60)
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


def test_blob_that_nothing_needs_is_deleted(served: PrivateRegistry, http: requests.Session, name: str) -> None:
    blob = push_blob(served, name, b"to be deleted " + name.encode())
    assert blob["digest"] in served.stored()
    assert http.delete(served.url(f"{name}/blobs/{blob['digest']}")).status_code == 202
    assert http.get(served.url(f"{name}/blobs/{blob['digest']}")).status_code == 404
    assert blob["digest"] not in served.stored()


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
