"""Attachments in crid's database."""

from pathlib import Path

import pytest

from crid.cni.config import load
from crid.cni.model import Attachment, Network, State
from crid.cni.records import AttachmentRecords, StoredAttachmentRecords
from sampan.store.database import Store
from tests.fakes.cni_plugins import result
from tests.fakes.cni_records import InMemoryAttachmentRecords

TEXT = """{"cniVersion": "0.4.0", "cniVersions": ["1.0.0"], "name": "pods", "disableCheck": true, "plugins": [
    {"type": "bridge", "ipam": {"type": "host-local"}, "capabilities": {"ips": true, "mac": false}},
    {"type": "portmap"}]}"""


def attachment(directory: Path, sandbox: str = "s1", state: State = State.ADDING) -> Attachment:
    (directory / "10.conflist").write_text(TEXT)
    network = load(directory)
    assert isinstance(network, Network)
    return Attachment(sandbox, Path("/run/ns"), network, "1.0.0", state, "A=1", {"ips": ["10.1.0.5"]})


@pytest.mark.parametrize("kind", ["memory", "database"])
async def test_what_is_recorded_is_read_again_by_the_next_process(tmp_path: Path, kind: str) -> None:
    first = attachment(tmp_path)
    added = Attachment(
        *("s1", first.netns, first.network, "1.0.0", State.ADDED, "A=1", {"ips": ["10.1.0.5"]}),
        result=result("10.1.0.5/16"),
    )
    other = attachment(tmp_path, "s2", State.REMOVING)
    memory = InMemoryAttachmentRecords()
    for step in range(2):
        async with Store(tmp_path / "crid.db", "crid.schema", durable=False) as store:
            records: AttachmentRecords = memory if kind == "memory" else StoredAttachmentRecords(store)
            if step == 0:
                assert await records.attachments() == ([], {})
                for each in (first, other, added):
                    await records.put(each)
                await records.set_ranges(("10.1.0.0/24", "fd00::/64"))
            else:
                found, unreadable = await records.attachments()
                assert {each.sandbox: each.state for each in found} == {"s1": State.ADDED, "s2": State.REMOVING}
                assert not unreadable
                (again,) = (each for each in found if each.sandbox == "s1")
                assert again.result == result("10.1.0.5/16")
                assert again.network.plugins[0].capabilities == {"ips"}
                assert (again.network.name, again.network.versions, again.network.disable_check) == (
                    ("pods", ("0.4.0", "1.0.0"), True)
                )  # fmt: skip
                assert await records.ranges() == ("10.1.0.0/24", "fd00::/64")
                await records.set_ranges(())
                assert await records.ranges() == ()
                await records.drop("s1")
                await records.drop("s1")
                assert [each.sandbox for each in (await records.attachments())[0]] == ["s2"]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"network": {"name": "pods"}, "source": 5}'])
async def test_a_row_that_cannot_be_read_is_told_and_hides_no_other(tmp_path: Path, text: str) -> None:
    async with Store(tmp_path / "crid.db", "crid.schema", durable=False) as store:
        records = StoredAttachmentRecords(store)
        await records.put(attachment(tmp_path))
        await store.write(lambda db: db.execute("INSERT INTO cni_attachments VALUES ('s0', ?)", (text,)))
        found, unreadable = await records.attachments()
        assert [each.sandbox for each in found] == ["s1"]
        assert list(unreadable) == ["s0"]
