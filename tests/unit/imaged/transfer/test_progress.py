import asyncio

from imaged.transfer.progress import Progress, Step
from sampan.oci.descriptor import DOCKER_LAYER_GZIP, DOCKER_MANIFEST, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.resource.image import Layer
from sampan.resource.transfer import FetchPhase, FetchResolved, FetchStep

A, B = Digest.of(b"a"), Digest.of(b"b")


class Clock:
    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def resolved() -> FetchResolved:
    layers = tuple(Layer(Descriptor(DOCKER_LAYER_GZIP, digest, 10), digest) for digest in (A, B, A))
    return FetchResolved("lease", parse_reference("x:1"), Descriptor(DOCKER_MANIFEST, A, 1), layers)


def step(digest: Digest, phase: FetchPhase, offset: int = 0) -> FetchStep:
    return FetchStep(digest, phase, offset, 10)


async def taken(progress: Progress) -> list[Step]:
    progress.end()
    return [one async for one in progress.steps()]


async def test_all_layers_wait_once_before_anything_else() -> None:
    progress = Progress(Clock())
    progress.resolved(resolved())
    assert await taken(progress) == [resolved(), step(A, FetchPhase.WAITING), step(B, FetchPhase.WAITING)]


async def test_slow_client_gets_the_newest_step_of_each_layer() -> None:
    progress = Progress(Clock())
    progress.post(step(A, FetchPhase.DOWNLOADING, 1))
    progress.post(step(A, FetchPhase.VERIFYING, 10))
    progress.post(step(B, FetchPhase.EXISTED, 10))
    assert await taken(progress) == [step(A, FetchPhase.VERIFYING, 10), step(B, FetchPhase.EXISTED, 10)]


async def test_steps_of_one_phase_are_a_tenth_of_a_second_apart_and_the_newest_is_not_lost() -> None:
    clock = Clock()
    progress = Progress(clock)
    progress.post(step(A, FetchPhase.DOWNLOADING, 1))
    progress.post(step(A, FetchPhase.DOWNLOADING, 2))
    progress.post(step(A, FetchPhase.DOWNLOADING, 3))
    steps = progress.steps()
    assert await anext(steps) == step(A, FetchPhase.DOWNLOADING, 1)
    waiting = asyncio.ensure_future(anext(steps))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    clock.seconds += 0.2
    assert await waiting == step(A, FetchPhase.DOWNLOADING, 3)


async def test_step_that_was_held_back_is_dropped_when_the_phase_changes() -> None:
    progress = Progress(Clock())
    progress.post(step(A, FetchPhase.DOWNLOADING, 1))
    progress.post(step(A, FetchPhase.DOWNLOADING, 9))
    progress.post(step(A, FetchPhase.COMMITTED, 10))
    assert await taken(progress) == [step(A, FetchPhase.COMMITTED, 10)]


async def test_steps_are_waited_for() -> None:
    progress = Progress(Clock())
    waiting = asyncio.ensure_future(anext(progress.steps()))
    await asyncio.sleep(0)
    assert not waiting.done()
    progress.post(step(A, FetchPhase.EXISTED))
    assert await waiting == step(A, FetchPhase.EXISTED)
