"""The registry as a process: what outlives it, whom it lets in, what it keeps and what it lets go."""

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests

from sampan.api.check.v1 import check_pb2, check_pb2_grpc
from sampan.layout import Layout
from tests.support import images
from tests.support.images import OCI_MANIFEST, sha256
from tests.support.private_registry import PrivateRegistry, content_store, private_registry
from tests.support.registry import make_certificate, make_htpasswd
from tests.support.tools import eventually, need

IMAGE = images.Image([images.layer(images.tar(images.Entry("hello", b"hello")))], oci=True)
LAYER = IMAGE.layers[0].blob


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    """A content store of the test's own."""
    with content_store(tmp_path) as layout:
        yield layout


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """A content store for tests that do not look at all of it; one registry at a time."""
    with content_store(tmp_path_factory.mktemp("imaged")) as layout:
        yield layout


@pytest.fixture
def served(layout: Layout, tmp_path: Path) -> Iterator[PrivateRegistry]:
    with private_registry(layout, tmp_path) as running:
        yield running


def get(served: PrivateRegistry, path: str, **more: Any) -> requests.Response:
    with served.registry.session() as session:
        return session.get(served.url(path), timeout=60, **more)


def delete(served: PrivateRegistry, path: str) -> int:
    with served.registry.session() as session:
        return session.delete(served.url(path), timeout=60).status_code


def skopeo(*arguments: str) -> str:
    need("skopeo")
    done = subprocess.run(["skopeo", *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"skopeo {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def test_what_was_pushed_outlives_every_process(tmp_path: Path) -> None:
    with content_store(tmp_path) as layout, private_registry(layout, tmp_path) as served:
        images.push(served.registry, "app", "1", IMAGE)
        served.stop(signal.SIGKILL)
        served.start()
        assert get(served, "app/manifests/1").content == IMAGE.manifest()
    with content_store(tmp_path) as layout, private_registry(layout, tmp_path) as served:
        assert get(served, "app/manifests/1").content == IMAGE.manifest()
        assert get(served, f"app/blobs/{sha256(LAYER)}").content == LAYER


def test_upload_goes_on_after_the_registry_was_killed(served: PrivateRegistry) -> None:
    with served.registry.session() as session:
        location = session.post(served.url("app/blobs/uploads/")).headers["Location"]
        session.patch(served.url(location), data=b"first ")
        served.stop(signal.SIGKILL)
        served.start()
        answer = session.patch(served.url(location), data=b"second", headers={"Content-Range": "6-11"})
        assert answer.status_code == 202
        whole = sha256(b"first second")
        assert session.put(served.url(location), params={"digest": whole}).status_code == 201


def test_content_shared_by_repositories_goes_with_the_last_of_them(tmp_path: Path, layout: Layout) -> None:
    with private_registry(layout, tmp_path, "--unused-s", "10") as served:
        manifest = sha256(IMAGE.manifest())
        for name in ("one", "two"):
            images.push(served.registry, name, "1", IMAGE)
        assert {manifest, sha256(LAYER), IMAGE.id} <= served.stored()
        assert delete(served, f"one/manifests/{manifest}") == 202
        eventually(lambda: get(served, f"one/blobs/{sha256(LAYER)}").status_code == 404, "one's blobs are gone")
        assert get(served, f"two/blobs/{sha256(LAYER)}").content == LAYER
        assert delete(served, f"two/manifests/{manifest}") == 202
        eventually(lambda: served.stored() == set(), "the disk is free again")


def test_abandoned_upload_and_blobs_without_a_manifest_go(tmp_path: Path, layout: Layout) -> None:
    with private_registry(layout, tmp_path, "--unused-s", "3") as served, served.registry.session() as session:
        images.push_blob(served.registry, "app", b"nobody needs this")
        location = session.post(served.url("app/blobs/uploads/")).headers["Location"]
        eventually(lambda: served.stored() == set(), "the blob is gone")
        eventually(lambda: session.get(served.url(location)).status_code == 404, "the upload is gone")
        eventually(lambda: not list((layout.data("imaged") / "ingests").iterdir()), "and what it had brought")


def test_label_without_a_row_is_taken_back_at_start(layout: Layout, served: PrivateRegistry) -> None:
    """As if killed between the two steps of a push, or of a removal."""
    images.push(served.registry, "app", "1", IMAGE)
    served.stop()
    for file in (layout.data("registryd")).glob("registry.db*"):
        file.unlink()
    served.start()
    eventually(lambda: served.stored() == set(), "nothing is kept any more")


def test_blob_that_was_lost_is_pushed_again(tmp_path: Path) -> None:
    with content_store(tmp_path) as layout, private_registry(layout, tmp_path) as served:
        images.push(served.registry, "app", "1", IMAGE)
        file = layout.data("imaged") / "blobs/sha256" / sha256(LAYER).removeprefix("sha256:")
        file.unlink()
        answer = get(served, f"app/blobs/{sha256(LAYER)}")
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (500, "UNKNOWN")
    with content_store(tmp_path) as layout, private_registry(layout, tmp_path) as served:
        assert get(served, f"app/blobs/{sha256(LAYER)}").status_code == 404
        images.push(served.registry, "app", "1", IMAGE)
        assert get(served, f"app/blobs/{sha256(LAYER)}").content == LAYER


def test_passwords_are_asked_for(tmp_path: Path, shared: Layout) -> None:
    file = make_htpasswd(tmp_path, ("alice", "sesame"))
    with private_registry(shared, tmp_path, "--htpasswd", str(file), credentials=("alice", "sesame")) as served:
        for login in (None, ("alice", "wrong"), ("bob", "sesame"), ("alice", "")):
            answer = requests.get(served.url(""), auth=login, timeout=60)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
            assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"
        images.push(served.registry, "app", "1", IMAGE)
        with pytest.raises(AssertionError, match=r"unauthorized|authentication required"):
            skopeo("inspect", "--tls-verify=false", f"docker://{served.address}/app:1")
        skopeo("inspect", "--tls-verify=false", "--creds", "alice:sesame", f"docker://{served.address}/app:1")


def test_users_are_read_again_when_the_file_changes(tmp_path: Path, shared: Layout) -> None:
    file = make_htpasswd(tmp_path, ("alice", "sesame"))
    with private_registry(shared, tmp_path, "--htpasswd", str(file)) as served:
        assert requests.get(served.url(""), auth=("alice", "sesame"), timeout=60).status_code == 200
        make_htpasswd(tmp_path, ("bob", "other"))
        assert requests.get(served.url(""), auth=("alice", "sesame"), timeout=60).status_code == 401
        assert requests.get(served.url(""), auth=("bob", "other"), timeout=60).status_code == 200
        file.write_text("bob:{SHA}nonsense\n")
        assert requests.get(served.url(""), auth=("bob", "other"), timeout=60).status_code == 200


def test_tls_is_served(tmp_path: Path, shared: Layout) -> None:
    ca = make_certificate(tmp_path)
    flags = ("--tls-cert", str(tmp_path / "server.crt"), "--tls-key", str(tmp_path / "server.key"))
    with private_registry(shared, tmp_path, *flags, ca=ca) as served:
        images.push(served.registry, "app", "1", IMAGE)
        certs = tmp_path / "certs"
        certs.mkdir()
        (certs / "ca.crt").write_bytes(ca.read_bytes())
        found = skopeo("inspect", "--raw", "--cert-dir", str(certs), f"docker://{served.address}/app:1")
        assert found.encode() == IMAGE.manifest()


def test_read_only_registry_refuses_what_would_change_it(tmp_path: Path, shared: Layout) -> None:
    with private_registry(shared, tmp_path) as served:
        images.push(served.registry, "app", "1", IMAGE)
    with private_registry(shared, tmp_path, "--read-only", "true") as served, served.registry.session() as session:
        assert get(served, "app/manifests/1").content == IMAGE.manifest()
        for method, path in (
            ("POST", "app/blobs/uploads/"),
            ("PUT", "app/manifests/2"),
            ("DELETE", "app/manifests/1"),
            ("DELETE", f"app/blobs/{sha256(LAYER)}"),
        ):
            answer = session.request(method, served.url(path), data=b"x")
            assert (answer.status_code, answer.json()["errors"][0]["code"]) == (405, "UNSUPPORTED")


def test_blob_larger_than_allowed_is_refused(tmp_path: Path, shared: Layout) -> None:
    with (
        private_registry(shared, tmp_path, "--max-blob-bytes", "1500000") as served,
        served.registry.session() as session,
    ):
        location = session.post(served.url("app/blobs/uploads/")).headers["Location"]
        answer = session.patch(served.url(location), data=bytes(2_000_000))
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (413, "SIZE_INVALID")
        assert session.get(served.url(location)).status_code == 404
        images.push_blob(served.registry, "app", bytes(1_500_000))


@pytest.mark.root
def test_full_disk_is_said_and_free_again(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(data)], check=True)
    try:
        with content_store(tmp_path) as layout, private_registry(layout, tmp_path) as served:
            with served.registry.session() as session:
                location = session.post(served.url("app/blobs/uploads/")).headers["Location"]
                answer = session.patch(served.url(location), data=bytes(20_000_000))
                assert answer.status_code == 500
                assert "no space left on device" in answer.json()["errors"][0]["message"]
            eventually(lambda: list((layout.data("imaged") / "ingests").iterdir()) == [], "the disk is free")
            images.push(served.registry, "app", "1", IMAGE)
    finally:
        subprocess.run(["umount", "--lazy", str(data)], check=True)


def test_large_blob_is_never_in_memory(served: PrivateRegistry) -> None:
    size = 300 << 20
    piece = os.urandom(1 << 20)
    whole = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for _ in range(size >> 20):
            whole.update(piece)
            yield piece

    before = served.memory_kb()
    with served.registry.session() as session:
        location = session.post(served.url("app/blobs/uploads/")).headers["Location"]
        assert session.patch(served.url(location), data=pieces()).status_code == 202
        digest = f"sha256:{whole.hexdigest()}"
        assert session.put(served.url(location), params={"digest": digest}).status_code == 201
        # A client that reads nothing must not make the registry read ahead.
        with session.get(served.url(f"app/blobs/{digest}"), stream=True) as answer:
            read = hashlib.sha256()
            for data in answer.iter_content(1 << 20):
                read.update(data)
    assert read.digest() == whole.digest()
    assert served.memory_kb() - before < 60 << 10


def test_client_that_does_nothing_is_not_waited_for_for_ever(tmp_path: Path, shared: Layout) -> None:
    data = os.urandom(40 << 20)
    with private_registry(shared, tmp_path) as served:
        images.push_blob(served.registry, "app", data)
    with private_registry(shared, tmp_path, "--stall-timeout-s", "1") as served:
        host, port = served.address.split(":")
        with served.registry.session() as session:
            location = session.post(served.url("app/blobs/uploads/")).headers["Location"]
            for request, counted in (
                (
                    f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello",
                    'method="PATCH",route="upload"',
                ),
                (f"GET /v2/app/blobs/{sha256(data)} HTTP/1.1\r\nHost: x\r\n\r\n", 'method="GET",route="blob"'),
            ):
                with socket.create_connection((host, int(port))) as connection:
                    connection.sendall(request.encode())
                    line = f'requests_total{{code="499",{counted}}} 1.0'
                    eventually(lambda line=line: line in metrics(shared), "it is given up")  # type: ignore[misc]
            # The connection that was given up may hold the upload for a moment.
            eventually(
                lambda: session.patch(served.url(location), data=b"hello").status_code == 202, "the upload goes on"
            )


def test_one_layer_pushed_by_many_at_once_is_stored_once(served: PrivateRegistry) -> None:
    layer = images.layer(images.tar(images.Entry("noise", os.urandom(400_000))))
    image = images.Image([layer], oci=True)
    begin = threading.Barrier(8)

    def push(number: int) -> None:
        begin.wait()
        images.push(served.registry, f"app{number % 3}", f"t{number}", image)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(push, range(8)))
    assert served.stored() == {sha256(image.manifest()), sha256(layer.blob), image.id}
    for number in range(8):
        assert get(served, f"app{number % 3}/manifests/t{number}").content == image.manifest()


def test_skopeo_copies_in_and_out(served: PrivateRegistry, tmp_path: Path) -> None:
    many = [images.Image(IMAGE.layers, oci=True, architecture=which) for which in ("amd64", "arm64")]
    digest = images.push_index(served.registry, "src", "all", many, oci=True)
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
    skopeo("copy", "--all", *plain, f"docker://{served.address}/src:all", f"docker://{served.address}/dst:all")
    skopeo("copy", "--all", plain[0], f"docker://{served.address}/dst:all", f"oci:{tmp_path}/layout:all")
    index = json.loads((tmp_path / "layout/index.json").read_text())
    assert [entry["digest"] for entry in index["manifests"]] == [digest]
    assert "amd64" in skopeo("inspect", "--config", "--tls-verify=false", f"docker://{served.address}/dst:all")
    assert json.loads(skopeo("list-tags", "--tls-verify=false", f"docker://{served.address}/dst"))["Tags"] == ["all"]
    skopeo("delete", "--tls-verify=false", f"docker://{served.address}/dst:all")
    assert get(served, "dst/manifests/all").status_code == 404
    assert get(served, "src/manifests/all").status_code == 200


def metrics(layout: Layout) -> str:
    address = json.loads(layout.state_file("registryd").read_text())["metrics"]
    return requests.get(f"http://{address}/metrics", timeout=60).text


def test_what_it_does_is_counted(served: PrivateRegistry, layout: Layout) -> None:
    images.push(served.registry, "app", "1", IMAGE)
    get(served, "app/manifests/1")
    get(served, "app/manifests/none")
    for line in (
        'sampan_registry_requests_total{code="201",method="PUT",route="manifest"} 1.0',
        'sampan_registry_requests_total{code="200",method="GET",route="manifest"} 1.0',
        'sampan_registry_requests_total{code="404",method="GET",route="manifest"} 1.0',
    ):
        # A request is counted when it is over, which is a moment after its client has the answer.
        eventually(lambda line=line: line in metrics(layout), line)  # type: ignore[misc]
    (sent,) = re.findall(r"^sampan_registry_sent_bytes_total (\S+)$", metrics(layout), re.MULTILINE)
    assert float(sent) == len(IMAGE.manifest())


def test_start_without_an_engine_says_so(tmp_path: Path) -> None:
    code, output = start_in_vain(Layout(tmp_path / "d", tmp_path / "r"))
    assert code == 1
    assert f"cannot connect to the Sampan engine at {tmp_path}/r: start it with: sampan up --detach" in output


def test_content_store_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    with content_store(tmp_path) as layout, private_registry(layout, tmp_path) as served:
        images.push(served.registry, "app", "1", IMAGE)
        pid = json.loads(layout.state_file("imaged").read_text())["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(requests.Timeout), served.registry.session() as session:
                session.get(served.url("app/manifests/1"), timeout=0.5)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert get(served, "app/manifests/1").status_code == 200


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--listen", "nonsense"), "listen address 'nonsense': expected host:port"),
        (("--htpasswd", "/nonexistent"), "htpasswd file /nonexistent: No such file"),
        (("--tls-cert", "/nonexistent"), "only one of the two is given"),
        (("--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"), "/nonexistent"),
        (("--listen", "192.0.2.1:5000"), "192.0.2.1:5000"),
        (("--unused-s", "0"), "unused_s is 0.0"),
    ],
)
def test_start_that_cannot_be_says_why(shared: Layout, flags: tuple[str, ...], words: str) -> None:
    code, output = start_in_vain(shared, *flags)
    assert code == 1
    assert words in output


def test_port_in_use_is_named(served: PrivateRegistry, tmp_path: Path) -> None:
    with content_store(tmp_path / "other") as layout:
        code, output = start_in_vain(layout, "--listen", served.address)
    assert code == 1
    assert f"listen address {served.address} is in use" in output


def test_second_registry_on_one_engine_is_refused(served: PrivateRegistry, layout: Layout) -> None:
    code, output = start_in_vain(layout)
    assert code == 1
    assert "is in use" in output


def start_in_vain(layout: Layout, *flags: str) -> tuple[int, str]:
    roots = ["--data-root", str(layout.data_root), "--run-root", str(layout.run_root)]
    command = [sys.executable, "-P", "-m", "registryd", *roots, *(flags or ("--listen", "127.0.0.1:0"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr


def test_damaged_manifest_is_not_sent(layout: Layout, served: PrivateRegistry) -> None:
    images.push(served.registry, "app", "1", IMAGE)
    file = layout.data("imaged") / "blobs/sha256" / sha256(IMAGE.manifest()).removeprefix("sha256:")
    data = bytearray(file.read_bytes())
    data[20] ^= 1
    file.write_bytes(data)
    answer = get(served, "app/manifests/1")
    assert answer.status_code == 500
    assert "is damaged: push it again" in answer.json()["errors"][0]["message"]


def test_truncated_blob_breaks_the_answer_off(layout: Layout, served: PrivateRegistry) -> None:
    data = os.urandom(5_000_000)
    images.push_blob(served.registry, "app", data)
    file = layout.data("imaged") / "blobs/sha256" / sha256(data).removeprefix("sha256:")
    os.truncate(file, 3_000_000)
    with pytest.raises(requests.RequestException):
        get(served, f"app/blobs/{sha256(data)}")
    assert get(served, "").status_code == 200


def test_empty_repository_has_no_name(served: PrivateRegistry) -> None:
    images.push(served.registry, "app", "1", IMAGE)
    assert delete(served, f"app/manifests/{sha256(IMAGE.manifest())}") == 202
    assert get(served, "app/tags/list").status_code == 404
    assert get(served, "_catalog").json() == {"repositories": []}
    assert IMAGE.media_type == OCI_MANIFEST


def findings(stub: check_pb2_grpc.CheckStub) -> list[check_pb2.Finding]:
    """Have the registry checked."""
    return [step.finding for step in stub.Check(check_pb2.CheckRequest(), timeout=120) if step.HasField("finding")]


def test_rows_are_checked_against_the_content_store_and_repaired(layout: Layout, served: PrivateRegistry) -> None:
    images.push(served.registry, "app", "1", IMAGE)
    digest = sha256(LAYER)
    with grpc.insecure_channel(f"unix:{layout.socket('registryd')}") as channel:
        stub = check_pb2_grpc.CheckStub(channel)
        assert findings(stub) == []
        with contextlib.closing(sqlite3.connect(layout.data("registryd") / "registry.db")) as db, db:
            db.execute("UPDATE blobs SET size_bytes = 1 WHERE digest = ?", (digest,))
        (found,) = findings(stub)
        assert (found.kind, found.subject) == ("registry-row-broken", f"blobs/app@{digest}")
        assert stub.Repair(check_pb2.RepairRequest(finding=found), timeout=120).repaired
        assert findings(stub) == []
    assert get(served, f"app/blobs/{digest}").content == LAYER


def test_database_that_is_lost_with_its_copy_costs_the_tags_and_no_content(
    layout: Layout, served: PrivateRegistry
) -> None:
    images.push(served.registry, "app", "1", IMAGE)
    before = served.stored()
    served.stop()
    database = layout.data("registryd") / "registry.db"
    for path in layout.data("registryd").glob("registry.db*"):
        path.unlink()
    database.write_bytes(b"x" * 8192)
    served.start(damaged=True)
    with grpc.insecure_channel(f"unix:{layout.socket('registryd')}") as channel:
        stub = check_pb2_grpc.CheckStub(channel)
        (found,) = findings(stub)
        assert found.kind == "database-damaged"
        assert stub.Repair(check_pb2.RepairRequest(finding=found), timeout=120).restarting
    eventually(served.answers, "the registry begins anew")
    assert served.stored() == before
    assert get(served, f"app/manifests/{sha256(IMAGE.manifest())}").content == IMAGE.manifest()
    assert get(served, f"app/blobs/{sha256(LAYER)}").content == LAYER
    assert get(served, "app/manifests/1").status_code == 404
