"""What happens to layers, and who is told, when images are removed."""

import asyncio
from collections.abc import Iterable, Sequence

import pytest

from sampan.engine.remove import Removal, Step, finish
from sampan.errors import DataLossError, SampanError, ServiceGoneError
from sampan.oci.digest import Digest
from sampan.resource.event import Event
from sampan.resource.image import ImageChange, RemovedImages
from sampan.resource.snapshot import Unstacked

IMAGE, BASE, TOP = (Digest("sha256:" + letter * 64) for letter in "abc")
REMOVED = RemovedImages((ImageChange(IMAGE, untagged="a:1"), ImageChange(IMAGE, chain_ids=(BASE, TOP))), 5)


class Services:
    """Layers whose removal ends when the removal has been told of, or fails at once; and who is told."""

    def __init__(self, failure: SampanError | None = None) -> None:
        self.layers = self.events = self
        self.failure = failure
        self.told: list[tuple[str, str, str]] = []
        self._telling = asyncio.Event()

    async def unstack(self, stacks: Sequence[Sequence[str]]) -> Unstacked:
        assert stacks == [(BASE, TOP)]
        if self.failure is not None:
            raise self.failure
        await self._telling.wait()
        return Unstacked((TOP,), 7)

    async def publish(self, events: Iterable[Event]) -> None:
        self._telling.set()
        await asyncio.sleep(0)
        self.told += [(each.action, each.actor_id, each.attributes["name"]) for each in events]


TOLD = [("untag", IMAGE, "a:1"), ("delete", IMAGE, IMAGE)]


async def test_who_listens_is_told_while_layers_are_taken_down() -> None:
    services = Services()
    async with asyncio.timeout(60):
        removal = await finish(services, REMOVED, {})  # type: ignore[arg-type] # as much as is asked for
    assert removal == Removal((Step("a:1", untagged=True), Step(IMAGE), Step(TOP)), 12)
    assert services.told == TOLD


async def test_layers_that_cannot_be_taken_down_now_are_left_to_a_pass() -> None:
    services = Services(ServiceGoneError("gone"))
    removal = await finish(services, REMOVED, {})  # type: ignore[arg-type] # as much as is asked for
    assert removal == Removal((Step("a:1", untagged=True), Step(IMAGE)), 5)
    assert services.told == TOLD


async def test_what_was_done_to_images_is_told_whatever_becomes_of_their_layers() -> None:
    services = Services(DataLossError("damaged"))
    with pytest.raises(DataLossError):
        await finish(services, REMOVED, {})  # type: ignore[arg-type] # as much as is asked for
    assert services.told == TOLD
