"""What ``resource.protocols.Volumes`` promises, whoever keeps it."""

import pytest

from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.resource.protocols import Volumes
from sampan.resource.volume import VolumeRequest


class VolumesContract:
    """Subclass with a fixture ``volumes`` that has none yet."""

    promises: tuple[type, ...] = (Volumes,)

    async def test_a_volume_is_made_once_and_then_found(self, volumes: Volumes) -> None:
        made = await volumes.create(VolumeRequest("cache", "local", labels={"a": "1"}))
        assert (made.name, made.driver, dict(made.labels), made.anonymous) == ("cache", "local", {"a": "1"}, False)
        assert made.mountpoint
        assert await volumes.create(VolumeRequest("cache", labels={"a": "2"})) == made
        assert await volumes.get("cache") == made

    async def test_without_a_name_it_is_anonymous_and_its_name_is_64_hex_digits(self, volumes: Volumes) -> None:
        made = await volumes.create(VolumeRequest())
        assert made.anonymous
        assert len(made.name) == 64
        int(made.name, 16)

    async def test_an_unknown_driver_is_not_found(self, volumes: Volumes) -> None:
        with pytest.raises(NotFoundError, match='plugin "rexray" not found'):
            await volumes.create(VolumeRequest("v1", "rexray"))

    async def test_a_name_that_is_a_path_is_refused(self, volumes: Volumes) -> None:
        with pytest.raises(InvalidArgumentError):
            await volumes.create(VolumeRequest("../etc"))
        assert await volumes.list() == ()

    async def test_what_is_not_there_is_not_found(self, volumes: Volumes) -> None:
        with pytest.raises(NotFoundError, match="get nosuch: no such volume"):
            await volumes.get("nosuch")
        with pytest.raises(NotFoundError, match="get nosuch: no such volume"):
            await volumes.remove("nosuch")
        await volumes.remove("nosuch", force=True)

    async def test_a_list_is_sorted_by_name_and_filtered(self, volumes: Volumes) -> None:
        for name in ("web-data", "db-data", "web-logs"):
            await volumes.create(VolumeRequest(name))
        assert [one.name for one in await volumes.list()] == ["db-data", "web-data", "web-logs"]
        assert [one.name for one in await volumes.list({"name": ("web",)})] == ["web-data", "web-logs"]
        paged = [one.name async for page in volumes.pages({"name": ("web",)}) for one in page]
        assert paged == ["web-data", "web-logs"]

    async def test_an_unknown_filter_is_refused(self, volumes: Volumes) -> None:
        with pytest.raises(InvalidArgumentError, match="invalid filter 'colour'"):
            await volumes.list({"colour": ("red",)})

    async def test_sizes_are_measured_for_those_who_ask_alone(self, volumes: Volumes) -> None:
        await volumes.create(VolumeRequest("data"))
        (plain,) = await volumes.list()
        (measured,) = await volumes.list(size=True)
        assert plain.size_bytes is None
        assert measured.size_bytes is not None

    async def test_a_prune_takes_anonymous_ones_and_named_ones_only_with_all(self, volumes: Volumes) -> None:
        await volumes.create(VolumeRequest("named"))
        loose = await volumes.create(VolumeRequest())
        assert (await volumes.prune()).removed == (loose.name,)
        assert (await volumes.prune({"all": ("true",)})).removed == ("named",)
        assert await volumes.list() == ()
