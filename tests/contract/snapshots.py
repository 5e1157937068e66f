"""Behaviours that any store of snapshots owes: run on each driver, and through servicer and client."""

import asyncio
import os
import stat

import pytest

from sampan.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
)
from sampan.resource.snapshot import Kind
from sampan.resource.storage.snapshots import Snapshots
from tests.support.snapshotter import Kit, Parts, names, shown, tar


@pytest.mark.root
class SnapshotsContract:
    """Subclasses give ``parts``."""

    promises: tuple[type, ...] = (Snapshots,)

    @pytest.fixture
    def kit(self, parts: Parts) -> Kit:
        return Kit(parts)

    async def test_a_stack_shows_its_layers_over_each_other(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(
            tar(etc=None, etc__a="1", etc__b="1"), tar(etc__b="2", etc__c="2"), tar(usr=None, etc__c="3")
        )
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            assert names(root) == ["etc", "etc/a", "etc/b", "etc/c", "usr"]
            assert [(root / "etc" / name).read_text() for name in "abc"] == ["1", "2", "3"]

    async def test_whiteouts_hide_what_is_below_and_not_what_is_beside(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(
            tar(d=None, d__a="1", d__b="1", e=None, e__old="1", f="1", g=None, g__old="1"),
            tar(d___WH_a="", e__new="2", e___OPQ="", _WH_f="", _WH_g="", g=None, g__new="2"),
        )
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            assert names(root) == ["d", "d/b", "e", "e/new", "g", "g/new"]

    async def test_an_opaque_root_hides_all_layers_below(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(old="1"), tar(_OPQ="", new="2"), tar(newer="3"))
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            assert names(root) == ["new", "newer"]

    async def test_what_is_written_stays_and_is_nobody_elses(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        with shown(await parts.snapshots.prepare("one", chain, {})) as root:
            (root / "a").write_text("changed")
            (root / "b").touch()
        await parts.snapshots.prepare("two", chain, {})
        with shown(await parts.snapshots.mounts("one")) as root:
            assert (root / "a").read_text() == "changed"
        with shown(await parts.snapshots.mounts("two")) as root:
            assert names(root) == ["a"]
            assert (root / "a").read_text() == "1"

    async def test_mounts_are_the_same_as_when_it_was_made(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"), tar(b="1"))
        assert await parts.snapshots.prepare("one", chain, {}) == await parts.snapshots.mounts("one")
        assert await parts.snapshots.view("two", chain, {}) == await parts.snapshots.mounts("two")

    @pytest.mark.parametrize("layers", [1, 3])
    async def test_a_view_cannot_be_written(self, kit: Kit, parts: Parts, layers: int) -> None:
        chain = await kit.image(*(tar(a=str(number)) for number in range(layers)))
        with shown(await parts.snapshots.view("look", chain, {})) as root:
            assert (root / "a").read_text() == str(layers - 1)
            with pytest.raises(OSError, match="Read-only"):
                (root / "b").touch()

    async def test_a_snapshot_without_parent_begins_empty(self, parts: Parts) -> None:
        with shown(await parts.snapshots.prepare("base", None, {})) as root:
            assert names(root) == []
            assert stat.S_IMODE(root.stat().st_mode) == 0o755

    async def test_a_committed_snapshot_is_a_parent(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1", b="1", d=None, d__x="1"))
        with shown(await parts.snapshots.prepare("build", chain, {})) as root:
            (root / "a").unlink()
            (root / "c").write_text("new")
            (root / "d" / "x").unlink()
        await parts.snapshots.commit("built", "build", {"step": "1"})
        with pytest.raises(NotFoundError):
            await parts.snapshots.mounts("build")
        with shown(await parts.snapshots.prepare("run", "built", {})) as root:
            assert names(root) == ["b", "c", "d"]
        assert (await parts.snapshots.stat("built")).labels == {"step": "1"}
        assert (await parts.snapshots.stat("built")).parent == chain
        await parts.snapshots.commit("built", "build", {})  # once more, as after a lost reply

    async def test_commit_refuses_what_it_must(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        await parts.snapshots.prepare("one", chain, {})
        await parts.snapshots.prepare("two", chain, {})
        await parts.snapshots.view("look", chain, {})
        await parts.snapshots.commit("name", "one", {})
        with pytest.raises(AlreadyExistsError):
            await parts.snapshots.commit("name", "two", {})
        with pytest.raises(NotFoundError):
            await parts.snapshots.commit("other", "one", {})
        with pytest.raises(ConflictError):
            await parts.snapshots.commit("other", "look", {})

    async def test_keys_and_parents_are_checked(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        await parts.snapshots.prepare("web", chain, {})
        with pytest.raises(AlreadyExistsError):
            await parts.snapshots.prepare("web", chain, {})
        with pytest.raises(AlreadyExistsError):
            await parts.snapshots.view(chain, chain, {})
        with pytest.raises(NotFoundError):
            await parts.snapshots.prepare("new", "missing", {})
        with pytest.raises(ConflictError, match="commit it first"):
            await parts.snapshots.prepare("new", "web", {})
        with pytest.raises(InvalidArgumentError):
            await parts.snapshots.prepare("", chain, {})
        with pytest.raises(ConflictError, match="prepare or view it first"):
            await parts.snapshots.mounts(chain)
        with pytest.raises(NotFoundError):
            await parts.snapshots.mounts("missing")

    async def test_many_at_once_of_one_key_make_one(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        tries = [parts.snapshots.prepare("web", chain, {}) for _ in range(8)]
        results = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(result, tuple) for result in results) == 1
        assert all(isinstance(result, tuple | AlreadyExistsError) for result in results)
        assert len(list(parts.disk.snapshots.iterdir())) == 1

    async def test_remove_of_a_parent_with_children_is_a_conflict(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        await parts.snapshots.prepare("web", chain, {})
        with pytest.raises(ConflictError, match="parent of 'web'"):
            await parts.snapshots.remove(chain)
        await parts.snapshots.remove("web")
        await parts.snapshots.remove(chain)
        with pytest.raises(NotFoundError):
            await parts.snapshots.remove("web")

    async def test_labels_change_one_by_one_or_all_at_once(self, parts: Parts) -> None:
        await parts.snapshots.prepare("web", None, {"a": "1", "b": "2"})
        snapshot = await parts.snapshots.update("web", {"b": "3", "a": None, "io.x/y": "z"}, replace=False)
        assert snapshot.labels == {"b": "3", "io.x/y": "z"}
        snapshot = await parts.snapshots.update("web", {"only": "this"}, replace=True)
        assert snapshot.labels == (await parts.snapshots.stat("web")).labels == {"only": "this"}
        with pytest.raises(NotFoundError):
            await parts.snapshots.update("missing", {}, replace=True)

    async def test_list_filters(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        await parts.snapshots.prepare("web", chain, {"role": "x"})
        await parts.snapshots.view("look", chain, {})
        assert [one.key for one in await parts.snapshots.list([])] == [chain, "web", "look"]
        assert [one.key for one in await parts.snapshots.list(["kind==committed"])] == [chain]
        assert [one.key for one in await parts.snapshots.list(["labels.role==x", "kind==view"])] == ["web", "look"]
        with pytest.raises(InvalidArgumentError):
            await parts.snapshots.list(["what=ever"])

    async def test_stat_tells_kind_and_parent(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a="1"))
        await parts.snapshots.prepare("web", chain, {})
        found = await parts.snapshots.stat("web")
        assert (found.kind, found.parent) == (Kind.ACTIVE, chain)
        assert (await parts.snapshots.stat(chain)).kind is Kind.COMMITTED

    async def test_usage_counts_what_is_a_snapshots_own(self, kit: Kit, parts: Parts) -> None:
        chain = await kit.image(tar(a=b"x" * 100_000))
        assert (await parts.snapshots.usage(chain)).size_bytes in range(100_000, 120_000)
        with shown(await parts.snapshots.prepare("web", chain, {})) as root:
            before = (await parts.snapshots.usage("web")).size_bytes
            (root / "new").write_bytes(b"y" * 50_000)
            os.sync()
        assert (await parts.snapshots.usage("web")).size_bytes - before in range(50_000, 60_000)
        usages = {usage.key: usage for usage in await parts.layers.usages()}
        assert usages[chain].layer_users == 1
        assert usages["web"].parent == chain
