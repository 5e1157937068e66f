"""The registry and its content store, killed at any moment: what is listed is whole, and nothing is left over."""

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
import requests

from tests.support import images
from tests.support.images import sha256
from tests.support.private_registry import PrivateRegistry, content_store, private_registry, running_content_store
from tests.support.tools import eventually

COMMON = images.layer(images.tar(images.Entry("common", os.urandom(300_000))))
KILLS = 8


def new_image(number: int) -> images.Image:
    return images.Image([COMMON, images.layer(images.tar(images.Entry("own", f"{number}".encode() * 9999)))], oci=True)


def push_until_told(served: PrivateRegistry, number: int, pushed: dict[str, bytes], stop: threading.Event) -> None:
    """Push images, and remove some, through every failure; ``pushed`` are the tags whose push was confirmed."""
    count = 0
    while not stop.is_set():
        count += 1
        image, tag = new_image(number * 1000 + count), f"t{count}"
        repository = f"r{number}"
        with contextlib.suppress(requests.RequestException, KeyError):
            images.push(served.registry, repository, tag, image)
            pushed[f"{repository}/manifests/{tag}"] = image.manifest()
            if count % 3 == 0:
                gone = f"{repository}/manifests/{sha256(image.manifest())}"
                del pushed[f"{repository}/manifests/{tag}"]  # from here on it may be either
                with served.registry.session() as session:
                    session.delete(served.url(gone), timeout=60)


@pytest.mark.slow
def test_kill_at_any_moment_leaves_whole_images_and_nothing_else(tmp_path: Path) -> None:
    pushed: dict[str, bytes] = {}
    moments = random.Random(4)
    with content_store(tmp_path) as layout, private_registry(layout, tmp_path, "--unused-s", "3") as served:
        stop = threading.Event()
        threads = [threading.Thread(target=push_until_told, args=(served, n, pushed, stop)) for n in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(KILLS):
                time.sleep(moments.uniform(0.05, 0.6))
                served.stop(signal.SIGKILL)
                served.start()
            eventually(lambda: len(pushed) > 2, "some pushes were confirmed, whatever is removed just now")
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        assert pushed
        assert_whole(served, pushed)
        remove_everything(served)
        eventually(lambda: served.stored() == set(), "the disk is free again")
        eventually(lambda: not list((layout.data("imaged") / "ingests").iterdir()), "no upload is left")


@pytest.mark.slow
def test_kill_of_the_content_store_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    pushed: dict[str, bytes] = {}
    moments = random.Random(5)
    with running_content_store(tmp_path) as store, private_registry(store.layout, tmp_path) as served:
        stop = threading.Event()
        thread = threading.Thread(target=push_until_told, args=(served, 1, pushed, stop))
        thread.start()
        try:
            for _ in range(KILLS // 2):
                time.sleep(moments.uniform(0.05, 0.6))
                store.stop(signal.SIGKILL)
                store.start()
            eventually(lambda: len(pushed) > 2, "some pushes were confirmed, whatever is removed just now")
        finally:
            stop.set()
            thread.join(60)
        assert pushed
        assert_whole(served, pushed)


def assert_whole(served: PrivateRegistry, pushed: dict[str, bytes]) -> None:
    """Everything that was confirmed is here, and everything that is listed can be pulled."""
    with served.registry.session() as session:
        for path, content in pushed.items():
            assert session.get(served.url(path), timeout=60).content == content, path
        for repository in session.get(served.url("_catalog"), timeout=60).json()["repositories"]:
            for tag in session.get(served.url(f"{repository}/tags/list"), timeout=60).json()["tags"]:
                manifest = session.get(served.url(f"{repository}/manifests/{tag}"), timeout=60).json()
                for part in (manifest["config"], *manifest["layers"]):
                    blob = session.get(served.url(f"{repository}/blobs/{part['digest']}"), timeout=60)
                    assert sha256(blob.content) == part["digest"], f"{repository}:{tag}"


def remove_everything(served: PrivateRegistry) -> None:
    with served.registry.session() as session:
        for repository in session.get(served.url("_catalog"), timeout=60).json()["repositories"]:
            for tag in session.get(served.url(f"{repository}/tags/list"), timeout=60).json()["tags"]:
                found = session.head(served.url(f"{repository}/manifests/{tag}"), timeout=60)
                digest = found.headers["Docker-Content-Digest"]
                assert session.delete(served.url(f"{repository}/manifests/{digest}"), timeout=60).status_code == 202
