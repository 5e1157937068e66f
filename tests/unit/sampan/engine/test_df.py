"""Where the disk has gone."""

import asyncio
from datetime import UTC, datetime

from sampan.build.request import UsageRecord
from sampan.disk import CACHE, IMAGE, LEASE, REGISTRY, SERVICE, Holder, StoredObject
from sampan.engine.df import CacheUse, ContainerUse, DiskUse, ImageUse, Total, cache_use, content_total
from sampan.engine.listing import Listed
from sampan.errors import ServiceGoneError
from sampan.resource.container import ContainerDetails, ContainerState, Status
from sampan.resource.container_spec import ContainerSpec
from sampan.resource.volume import Volume
from tests.fakes.image_values import image_value


def disk(
    *,
    layers_bytes: int = 0,
    needed_bytes: int = 0,
    images: tuple[ImageUse, ...] = (),
    containers: tuple[ContainerUse, ...] = (),
    volumes: tuple[Volume, ...] = (),
) -> DiskUse:
    return DiskUse(
        layers_bytes, needed_bytes, images, containers, volumes, Listed((), complete=True), Listed((), complete=True)
    )


class Builds:
    """A builder whose ``usage`` is the test's."""

    def __init__(self, answer: UsageRecord | ServiceGoneError | None) -> None:
        self._answer = answer
        self.builds = self

    async def usage(self) -> list[UsageRecord]:
        if self._answer is None:
            await asyncio.Event().wait()
        if isinstance(self._answer, ServiceGoneError):
            raise self._answer
        assert self._answer is not None
        return [self._answer]


async def test_a_builder_that_does_not_answer_is_missing_and_no_error() -> None:
    record = UsageRecord("a", 5)
    assert await cache_use(Builds(record)) == CacheUse((record,))  # type: ignore[arg-type] # as much as is asked for
    for silent in (None, ServiceGoneError("gone")):
        found = await cache_use(Builds(silent), deadline_s=0)  # type: ignore[arg-type] # as much as is asked for
        assert found.records == ()
        assert "service buildd does not answer" in found.missing


def test_images_that_containers_are_made_from_are_in_use_and_a_layer_counts_once() -> None:
    images = (ImageUse(image_value(), 3500, 3000, 2), ImageUse(image_value("sha256:" + "1" * 64), 3200, 3000, 0))
    used = disk(layers_bytes=3700, needed_bytes=3500, images=images)
    assert used.images_total() == Total(2, 1, 3700, 200)


def test_containers_that_go_on_by_themselves_are_in_use() -> None:
    def use(status: Status, size: int) -> ContainerUse:
        spec, made = ContainerSpec(), datetime.fromtimestamp(0, UTC)
        return ContainerUse(ContainerDetails("c", spec, made, state=ContainerState(status)), size, size + 3500)

    active = (Status.RUNNING, Status.PAUSED, Status.RESTARTING)
    uses = tuple(use(status, 1 << number) for number, status in enumerate(Status))
    idle = sum(one.size_rw_bytes for one in uses if one.container.state.status not in active)
    assert disk(containers=uses).containers_total() == Total(len(Status), 3, (1 << len(Status)) - 1, idle)


def test_volumes_that_containers_have_are_in_use_and_one_of_unknown_size_has_none() -> None:
    made = datetime.fromtimestamp(0, UTC)
    volumes = (
        Volume("a", made, used_by=("c",), size_bytes=5),
        Volume("b", made, size_bytes=7),
        Volume("kept by a plugin", made, size_bytes=None),
    )
    assert disk(volumes=volumes).volumes_total() == Total(3, 1, 12, 7)


def test_build_cache_that_images_share_counts_as_theirs() -> None:
    records = (UsageRecord("a", 1000), UsageRecord("b", 3000, in_use=True), UsageRecord("c", 50_000, shared=True))
    assert CacheUse(records).total() == Total(3, 1, 4000, 1000)


def test_content_is_in_use_while_images_or_registries_have_it() -> None:
    holders = ((IMAGE, LEASE), (REGISTRY,), (CACHE,), (LEASE,), (), (SERVICE,))
    objects = [
        StoredObject("blob", str(number), 1 << number, tuple(Holder(kind, "x") for kind in kinds))
        for number, kinds in enumerate(holders)
    ]
    assert content_total(objects) == Total(5, 2, 31, 28)


def test_of_nothing_there_are_no_bytes() -> None:
    nothing = Total(0, 0, 0, 0)
    used = disk()
    assert {used.images_total(), used.containers_total(), used.volumes_total(), CacheUse(()).total()} == {nothing}
