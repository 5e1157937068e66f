"""What ``docker push`` and ``sampan push`` say of registries that refuse, break off and lie."""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from tests.fakes.push_registry import PushRegistry, Refuse, sha256
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.images import Entry, Image, layer, push, tar
from tests.support.registry import Registry

Unique = Callable[[str], str]

LARGE = tar(Entry("noise", random.Random(3).randbytes(3_000_000)))
IMAGE = Image([layer(tar(Entry("a", b"a"))), layer(LARGE, "none")], {"Cmd": ["/a"]})


@pytest.fixture
def refusing() -> Iterator[PushRegistry]:
    """A registry that does what a test asks for, in a thread of its own."""
    registry = PushRegistry()
    started: Future[asyncio.Event] = Future()

    async def serve() -> None:
        async with registry.running():
            stop = asyncio.Event()
            started.set_result(stop)
            await stop.wait()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    stop = started.result(60)
    yield registry
    loop.call_soon_threadsafe(stop.set)
    thread.join(60)
    loop.close()


@pytest.fixture
def name(docker: DockerClient, registry: Registry, refusing: PushRegistry, unique: Unique) -> Iterator[str]:
    """An image that is tagged for it, and was pulled from elsewhere."""
    source = unique("pushed")
    push(registry, source, "1", IMAGE)
    docker("pull", "--quiet", f"{registry.address}/{source}:1")
    name = f"{refusing.address}/team/app:1"
    docker("tag", f"{registry.address}/{source}:1", name)
    yield name
    docker.fails("rmi", "--force", name, f"{registry.address}/{source}:1")


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        (
            Refuse("PUT", "/uploads/", 403, "DENIED", "adding 3 MiB exceeds the quota of 2 MiB", times=9),
            "denied: adding 3 MiB exceeds the quota of 2 MiB",
        ),
        (Refuse("PUT", "/uploads/", 507, times=9), "unexpected status code 507"),
        (Refuse("PUT", "/manifests/", 507, "QUOTA", "disk is full", times=9), "quota: disk is full"),
        (Refuse("POST", "/uploads/", 401, times=99), "unauthorized: authentication required"),
        (Refuse("PUT", "/manifests/", 400, "MANIFEST_INVALID", "no"), "manifest invalid: no"),
    ],
    ids=["quota of a layer", "no room", "no room for the manifest", "nobody may", "manifest"],
)
def test_refusal_is_told_in_the_registrys_words(
    engine: Engine, docker: DockerClient, refusing: PushRegistry, name: str, refusal: Refuse, message: str
) -> None:
    refusing.refusals = [Refuse(**vars(refusal))]
    failed = docker.fails("push", name)
    assert (failed.code, message in failed.stderr) == (1, True), failed.stderr
    refusing.refusals = [Refuse(**vars(refusal))]
    failed = engine.sampan_fails("push", name)
    assert (failed.code, message in failed.stderr) == (1, True), failed.stderr
    assert refusing.manifests == {}
    # Nothing is in the way of the next one.
    refusing.refusals = []
    docker("push", "--quiet", name)
    assert refusing.manifests["team/app", "1"][1] == IMAGE.manifest()


def test_push_that_breaks_off_half_way_goes_on_there(docker: DockerClient, refusing: PushRegistry, name: str) -> None:
    # The config goes alone and whole, then one of the two layers loses its line.
    refusing.hang_up_after = [1 << 40, 0, 1 << 40]
    pushed = docker("push", name)
    assert pushed.lines[-1].startswith(f"1: digest: {sha256(IMAGE.manifest())}")
    assert refusing.blobs["team/app"][sha256(LARGE)] == LARGE


def test_mount_that_is_refused_is_an_upload(docker: DockerClient, refusing: PushRegistry, name: str) -> None:
    docker("push", "--quiet", name)
    other = f"{refusing.address}/team/other:1"
    docker("tag", name, other)
    refusing.mounts = False
    pushed = docker("push", other)
    assert any(line.endswith(": Pushed") for line in pushed.lines)
    assert refusing.blobs["team/other"][sha256(LARGE)] == LARGE
    docker("rmi", other)


def test_token_that_expires_on_the_way_is_renewed(docker: DockerClient, refusing: PushRegistry, name: str) -> None:
    refusing.tokens = True
    refusing.expire_at = 6
    docker("push", "--quiet", name)
    assert refusing.count("GET", "/token") >= 2
    assert refusing.manifests["team/app", "1"][1] == IMAGE.manifest()


def test_registry_that_reports_another_digest_is_not_believed(
    docker: DockerClient, refusing: PushRegistry, name: str
) -> None:
    refusing.report_digest = sha256(b"something else")
    failed = docker.fails("push", name)
    assert failed.code == 1
    assert f"the registry reports the digest {sha256(b'something else')} for manifest" in failed.stderr


def test_tag_that_moves_on_the_way_is_pushed_as_it_was(
    docker: DockerClient, refusing: PushRegistry, name: str, image: str
) -> None:
    refusing.on_manifest = lambda: docker("tag", image, name)
    pushed = docker("push", name)
    assert pushed.lines[-1].startswith(f"1: digest: {sha256(IMAGE.manifest())}")
    assert docker("image", "inspect", "--format", "{{.Id}}", name).line != IMAGE.id
