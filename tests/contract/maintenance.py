"""What services promise of themselves: ``resource.protocols.Host``, ``disk.Disk`` and ``check.Check``."""

from dataclasses import replace
from datetime import datetime

import pytest

from sampan.check import KINDS, Amount, Check, Finding, Means
from sampan.disk import ORPHAN, Disk, StoredObject
from sampan.errors import InvalidArgumentError
from sampan.resource.protocols import Host


class HostContract:
    """Subclass with a fixture ``host``."""

    promises: tuple[type, ...] = (Host,)

    async def test_what_is_chosen_is_among_what_there_is(self, host: Host) -> None:
        info = await host.info()
        usable = [each.name for each in info.runtimes if each.usable]
        assert info.default_runtime in usable
        assert all(each.reason for each in info.runtimes if not each.usable)
        assert info.cgroup_version in (1, 2)
        assert info.conmon_version
        assert "json-file" in info.log_drivers
        assert {"bridge", "host", "null"} <= set(info.network_drivers)
        assert "local" in info.volume_drivers

    async def test_asking_changes_nothing(self, host: Host) -> None:
        first, second = await host.info(), await host.info()
        assert replace(first, system_time="") == replace(second, system_time="")

    async def test_the_engine_s_time_says_its_zone(self, host: Host) -> None:
        told = datetime.fromisoformat((await host.info()).system_time)
        assert told.utcoffset() is not None


async def stored(disk: Disk) -> list[StoredObject]:
    return [one async for page in disk.objects() for one in page]


class DiskContract:
    """Subclass with fixtures ``disk`` and ``orphan``: the ID of an object that nobody holds, among others."""

    promises: tuple[type, ...] = (Disk,)

    async def test_a_pass_removes_what_nobody_holds_and_nothing_else(self, disk: Disk, orphan: str) -> None:
        before = await stored(disk)
        (nobody_s,) = [one for one in before if one.id == orphan]
        assert nobody_s.owner == ORPHAN
        collected = await disk.collect()
        assert collected.freed[nobody_s.kind].count == 1
        assert collected.reclaimed_bytes == nobody_s.size_bytes > 0
        left = {one.id for one in await stored(disk)}
        assert left == {one.id for one in before if one.owner != ORPHAN}
        assert left

    async def test_a_second_pass_finds_nothing(self, disk: Disk, orphan: str) -> None:
        await disk.collect()
        assert (await disk.collect()).freed == {}
        assert orphan not in {one.id for one in await stored(disk)}


class CheckContract:
    """Subclass with fixtures ``check`` and ``damaged``: what of the service's is damaged, and can be repaired."""

    promises: tuple[type, ...] = (Check,)

    async def _found(self, check: Check) -> list[Finding]:
        return [step async for step in check.check() if isinstance(step, Finding)]

    async def test_it_says_how_far_it_is_and_who_has_found_what(self, check: Check, damaged: str) -> None:
        steps = [step async for step in check.check()]
        amounts = [step for step in steps if isinstance(step, Amount)]
        assert amounts
        assert all(0 <= each.done <= each.total for each in amounts)
        (found,) = [step for step in steps if isinstance(step, Finding)]
        assert found.subject == damaged
        assert found.kind in KINDS
        assert all((found.problem, found.remedy, found.service))

    async def test_what_is_repaired_is_found_no_more(self, check: Check, damaged: str) -> None:
        (found,) = await self._found(check)
        outcome = await check.repair(found, Means())
        assert (outcome.repaired, outcome.restarting) == (True, False)
        assert outcome.text
        assert await self._found(check) == []

    async def test_a_kind_that_nobody_knows_is_refused(self, check: Check, damaged: str) -> None:
        with pytest.raises(InvalidArgumentError, match="'nonsense'"):
            await check.repair(Finding("nonsense", damaged, "is wrong", "nothing"), Means())
