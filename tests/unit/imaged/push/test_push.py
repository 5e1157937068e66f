"""Pushes against a registry that misbehaves."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from imaged.push import blobs
from imaged.push.metrics import PushMetrics
from imaged.push.push import Pusher, UploadMeans
from imaged.registry.auth import Tokens
from imaged.registry.endpoints import Endpoints
from imaged.registry.retry import RetryPolicy
from imaged.registry.source import Sources
from imaged.registry.transport import Transport
from sampan.errors import DataLossError, NotFoundError, PermissionDeniedError, RemoteError
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.resource.image import ANONYMOUS, Credentials
from sampan.resource.transfer import Pushed, PushPhase, PushResolved, PushStep
from tests.fakes.push_registry import PushRegistry, Refuse, sha256
from tests.support.images import Entry, Image, layer, tar
from tests.unit.imaged.archives import archive, docker_archive, load
from tests.unit.imaged.parts import Parts

LARGE = tar(Entry("noise", random.Random(7).randbytes(3_000_000)))
IMAGE = Image([layer(tar(Entry("a", b"a")), "none"), layer(LARGE, "none")], {"Cmd": ["sh"]})


@dataclass
class Pushing:
    """An image that is here, and a registry that it is to go to."""

    parts: Parts
    registry: PushRegistry
    pusher: Pusher

    async def __call__(
        self, name: str = "web:1", credentials: Credentials = ANONYMOUS
    ) -> tuple[Pushed, list[PushStep]]:
        """Push, and return the end and the steps."""
        steps: list[PushStep] = []
        reference = parse_reference(f"{self.registry.address}/{name}").with_default_tag()
        async with aclosing(self.pusher.push(reference, credentials)) as running:
            async for step in running:
                if isinstance(step, PushStep):
                    steps.append(step)
                elif isinstance(step, Pushed):
                    return step, steps
                else:
                    assert isinstance(step, PushResolved)
        raise AssertionError("the push did not end")

    async def tag(self, name: str) -> None:
        await self.parts.images.tag(IMAGE.id, parse_reference(f"{self.registry.address}/{name}"))


@pytest.fixture
async def push(parts: Parts) -> AsyncIterator[Pushing]:
    async with PushRegistry().running() as registry:
        transport = Transport(stall_timeout_s=5)
        retry = RetryPolicy(attempts=3, base_s=0.001)
        tokens = Tokens(transport)
        sources = Sources(Endpoints(), transport, tokens, retry)
        means = UploadMeans(transport, tokens, retry, PushMetrics(CollectorRegistry()))
        pusher = Pusher(parts.store, parts.content, parts.leases, sources, means)
        pushing = Pushing(parts, registry, pusher)
        await load(parts, archive(docker_archive(IMAGE, [f"{registry.address}/web:1"])))
        yield pushing
        await pusher.close()
        await transport.close()
    leases = await parts.store.read(lambda db: db.execute("SELECT count(*) FROM leases").fetchone()[0])
    assert leases == 0


async def test_a_push_brings_blobs_and_then_the_manifest(push: Pushing) -> None:
    pushed, steps = await push()
    registry = push.registry
    assert set(registry.blobs["web"]) == {IMAGE.id, sha256(LARGE), IMAGE.layers[0].diff_id}
    media_type, content = registry.manifests["web", "1"]
    assert (pushed.tag, pushed.manifest.media_type, pushed.manifest.digest) == ("1", media_type, sha256(content))
    assert registry.requests[-1] == "PUT /v2/web/manifests/1"
    assert [step.phase for step in steps if step.digest == sha256(LARGE)][-1] is PushPhase.PUSHED
    record = (await push.parts.images.get(f"{registry.address}/web:1")).record
    assert f"{registry.address}/web@{pushed.manifest.digest}" in {str(name) for name in record.names}


async def test_what_is_there_is_not_sent_again(push: Pushing) -> None:
    await push()
    push.registry.requests.clear()
    _, steps = await push()
    assert {step.phase for step in steps} <= {PushPhase.PREPARING, PushPhase.EXISTED}
    assert push.registry.count("POST", "") == 0


@pytest.mark.parametrize("piece_bytes", [64 << 20, 1 << 20])
async def test_a_broken_upload_goes_on_where_it_was(
    push: Pushing, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    monkeypatch.setattr(blobs, "PIECE_BYTES", piece_bytes)
    await push()  # so that only the large layer is left
    del push.registry.blobs["web"][sha256(LARGE)]
    push.registry.requests.clear()
    push.registry.hang_up_after = [500_000]
    await push()
    assert push.registry.blobs["web"][sha256(LARGE)] == LARGE
    assert push.registry.count("GET", "/blobs/uploads/") == 1
    assert push.registry.count("POST", "/blobs/uploads/") == 1
    assert push.registry.count("PATCH", "/blobs/uploads/") == (3 if piece_bytes < len(LARGE) else 0)


async def test_an_upload_that_the_registry_has_forgotten_begins_anew(push: Pushing) -> None:
    push.registry.hang_up_after = [100]
    push.registry.refusals = [Refuse("GET", "/blobs/uploads/", 404, "BLOB_UPLOAD_UNKNOWN", "gone")]
    await push()
    assert push.registry.blobs["web"][sha256(LARGE)] == LARGE


async def test_an_upload_of_which_the_registry_has_more_than_there_is_begins_anew(push: Pushing) -> None:
    push.registry.hang_up_after = [100]
    push.registry.exaggerate = 1 << 40
    await push()
    assert push.registry.blobs["web"][sha256(LARGE)] == LARGE


async def test_a_registry_that_keeps_hanging_up_is_given_up(push: Pushing) -> None:
    push.registry.hang_up_after = [1] * 50
    with pytest.raises(RemoteError, match=r"Put .*blobs/uploads/"):
        await push()
    assert push.registry.manifests == {}


async def test_layers_are_mounted_from_a_neighbour(push: Pushing) -> None:
    await push()
    await push.tag("team/other:2")
    push.registry.requests.clear()
    _, steps = await push("team/other:2")
    mounted = {step.digest for step in steps if step.phase is PushPhase.MOUNTED}
    assert sha256(LARGE) in mounted
    assert {step.mounted_from for step in steps if step.phase is PushPhase.MOUNTED} == {"web"}
    assert push.registry.count("PUT", "/blobs/") == 0


async def test_a_mount_that_is_refused_is_an_upload(push: Pushing) -> None:
    await push()
    await push.tag("other:2")
    push.registry.mounts = False
    _, steps = await push("other:2")
    assert PushPhase.MOUNTED not in {step.phase for step in steps}
    assert push.registry.blobs["other"][sha256(LARGE)] == LARGE


async def test_a_neighbour_that_may_not_be_read_does_not_stop_a_push(push: Pushing) -> None:
    await push()
    await push.tag("other:2")
    push.registry.tokens = True
    push.registry.refusals = [Refuse("POST", "/v2/other/blobs/uploads/", 403, "DENIED", "no", times=1)]
    await push("other:2")
    assert push.registry.blobs["other"][sha256(LARGE)] == LARGE


async def test_a_token_that_expires_on_the_way_is_renewed(push: Pushing) -> None:
    push.registry.tokens = True
    await push()
    push.registry.blobs.clear()
    for number in range(2, 9):
        push.registry.expire_at = len(push.registry.requests) + number
        await push()
        assert push.registry.blobs["web"][sha256(LARGE)] == LARGE
        del push.registry.blobs["web"][sha256(LARGE)]


REFUSALS: list[tuple[Refuse, type[Exception], str]] = [
    (
        Refuse("POST", "/uploads/", 403, "DENIED", "requested access to the resource is denied"),
        PermissionDeniedError,
        "^denied: requested access to the resource is denied$",
    ),
    (
        Refuse("PUT", "/uploads/", 403, "DENIED", "adding 3 MiB exceeds the quota of 2 MiB"),
        PermissionDeniedError,
        "^denied: adding 3 MiB exceeds the quota of 2 MiB$",
    ),
    (Refuse("PUT", "/manifests/", 400, "MANIFEST_INVALID", "no"), RemoteError, "^manifest invalid: no$"),
    (Refuse("PUT", "/uploads/", 413, "", "", times=9), RemoteError, "unexpected status code 413"),
    (Refuse("PUT", "/manifests/", 503, "", "", times=9), RemoteError, "unexpected status code 503"),
    (Refuse("PUT", "/uploads/", 429, "TOOMANYREQUESTS", "slow", times=99), RemoteError, "toomanyrequests: slow"),
]


@pytest.mark.parametrize(("refusal", "kind", "message"), REFUSALS)
async def test_a_refusal_is_told_in_the_registry_s_words(
    push: Pushing, refusal: Refuse, kind: type[Exception], message: str
) -> None:
    push.registry.refusals = [Refuse(**vars(refusal))]
    with pytest.raises(kind, match=message):
        await push()


async def test_a_token_without_the_right_to_push_is_denied(push: Pushing) -> None:
    push.registry.tokens = True
    push.registry.grants = lambda scope: False
    with pytest.raises(PermissionDeniedError, match=r"^denied: requested access to the resource is denied$"):
        await push()


async def test_a_passing_fault_is_not_told(push: Pushing) -> None:
    push.registry.refusals = [
        Refuse("HEAD", "/blobs/", 503),
        Refuse("POST", "", 502),
        Refuse("PUT", "/manifests/", 500),
    ]
    await push()


async def test_another_digest_than_what_was_sent_is_an_error(push: Pushing) -> None:
    push.registry.report_digest = sha256(b"other")
    with pytest.raises(DataLossError, match=f"the registry reports the digest {sha256(b'other')} for manifest"):
        await push()


async def test_a_tag_that_moves_on_the_way_does_not_matter(push: Pushing) -> None:
    moved: list[asyncio.Task[None]] = []
    other = Image([layer(tar(Entry("b", b"b")), "none")], {})
    name = f"{push.registry.address}/web:1"
    await load(push.parts, archive(docker_archive(other, ["other:1"])))

    def move() -> None:
        async def work() -> None:
            await push.parts.images.tag("other:1", parse_reference(name))

        moved.append(asyncio.create_task(work()))

    push.registry.on_manifest = move
    pushed, _ = await push()
    await asyncio.gather(*moved)
    assert pushed.image_id == IMAGE.id
    assert (await push.parts.images.get(name)).record.id == other.id


async def test_an_image_that_is_removed_on_the_way_is_pushed_in_full(push: Pushing) -> None:
    name = f"{push.registry.address}/web:1"
    steps = push.pusher.push(parse_reference(name), ANONYMOUS)
    await anext(steps)
    removing = asyncio.create_task(push.parts.images.remove(name, force=False, in_use=()))
    rest = [step async for step in steps]
    await removing
    assert isinstance(rest[-1], Pushed)
    assert push.registry.blobs["web"][sha256(LARGE)] == LARGE


async def test_a_damaged_blob_is_not_pushed(push: Pushing) -> None:
    path: Path = push.parts.content.path(Digest(sha256(LARGE)))
    path.write_bytes(bytes(len(LARGE)))
    with pytest.raises(DataLossError, match=sha256(LARGE)):
        await push()
    assert push.registry.manifests == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nonesuch", "An image does not exist locally with the tag: {}/nonesuch"),
        ("web:2", "tag does not exist: {}/web:2"),
    ],
)
async def test_what_is_not_here_is_told_in_docker_s_words(push: Pushing, name: str, message: str) -> None:
    with pytest.raises(NotFoundError, match=message.format(push.registry.address)):
        await push(name)


async def test_what_has_no_name_is_pushed_by_what_it_is_and_gets_none(push: Pushing) -> None:
    record = (await push.parts.images.get(f"{push.registry.address}/web:1")).record
    names = await push.parts.store.read(lambda db: db.execute("SELECT count(*) FROM names").fetchone()[0])
    for reference, tag in (("other:2", "2"), (f"other@{record.target.digest}", record.target.digest)):
        name = parse_reference(f"{push.registry.address}/{reference}")
        steps = [step async for step in push.pusher.push(name, ANONYMOUS, None, record.target)]
        assert isinstance(steps[-1], Pushed)
        assert sha256(push.registry.manifests["other", tag][1]) == record.target.digest
    assert push.registry.blobs["other"][sha256(LARGE)] == LARGE
    assert await push.parts.store.read(lambda db: db.execute("SELECT count(*) FROM names").fetchone()[0]) == names


async def test_leaving_early_ends_a_push(push: Pushing) -> None:
    steps = push.pusher.push(parse_reference(f"{push.registry.address}/web:1"), ANONYMOUS)
    await anext(steps)
    await anext(steps)
    await steps.aclose()
    assert push.registry.manifests == {}
