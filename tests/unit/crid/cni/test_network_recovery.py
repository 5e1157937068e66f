"""Pods' networks after crid was killed."""

import asyncio
from pathlib import Path

import pytest

from crid.cni.model import Attachment, State
from crid.cni.records import decode, encode
from tests.fakes.cni_plugins import CniPlugins
from tests.unit.crid.cni.parts import Parts, until


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    parts = Parts(tmp_path, CniPlugins(tmp_path / "bin"))
    parts.plugins.works("bridge")
    parts.configure("bridge", version="1.1.0")
    return parts


async def an_attachment(parts: Parts, sandbox: str = "s1") -> Attachment:
    """Leave a pod with a network behind."""
    networks = parts.start()
    await networks.add(parts.pod(sandbox))
    await networks.close()
    return decode(sandbox, parts.records.rows[sandbox])


def collected(parts: Parts) -> list[dict[str, str]]:
    valid: list[dict[str, str]] = parts.plugins.stdin("bridge", "GC")["cni.dev/valid-attachments"]
    return valid


async def test_a_pod_that_lives_keeps_its_network_and_is_looked_at(parts: Parts) -> None:
    await an_attachment(parts)
    networks = parts.start()
    assert await networks.recover(["s1"]) == {}
    pod = networks.get("s1")
    assert pod is not None
    assert str(pod.addresses[0]) == "10.1.0.2"
    await until(lambda: "CHECK bridge s1" in parts.plugins.calls)
    await until(lambda: any(call.startswith("GC") for call in parts.plugins.calls))
    assert not any(call.startswith("DEL") for call in parts.plugins.calls)
    assert collected(parts) == [{"containerID": "s1", "ifname": "eth0"}]
    assert parts.plugins.stdin("bridge", "GC")["cni.dev/attachments"] == collected(parts)
    await networks.close()


async def test_a_network_that_is_no_longer_as_it_was_made_is_known(parts: Parts) -> None:
    await an_attachment(parts)
    parts.plugins.write("bridge", "[ $CNI_COMMAND = CHECK ] && { echo no eth0 >&2; exit 1; }; exit 0")
    networks = parts.start()
    await networks.recover(["s1"])
    await until(lambda: "no eth0" in networks.broken.get("s1", ""))
    await networks.remove("s1")
    assert not networks.broken
    await networks.close()


@pytest.mark.parametrize("state", [State.ADDING, State.REMOVING])
async def test_what_was_half_done_is_taken_back_and_its_plugins_are_killed_first(parts: Parts, state: State) -> None:
    attachment = await an_attachment(parts)
    row = Attachment(
        *("s1", attachment.netns, attachment.network, attachment.version, state),
        *(attachment.arguments, attachment.capabilities, None),
    )
    parts.records.rows["s1"] = encode(row)
    networks = parts.start()
    await networks.recover(["s1"])
    assert networks.get("s1") is None
    await until(lambda: not parts.records.rows)
    assert parts.killed == ["s1"]
    assert "DEL bridge s1" in parts.plugins.calls
    await networks.close()


async def test_a_network_whose_sandbox_is_gone_is_taken_back(parts: Parts) -> None:
    await an_attachment(parts)
    networks = parts.start()
    await networks.recover([])
    await until(lambda: not parts.records.rows)
    assert parts.plugins.stdin("bridge", "DEL")["prevResult"]
    await networks.close()


async def test_it_is_tried_again_after_each_start_until_it_succeeds(parts: Parts) -> None:
    await an_attachment(parts)
    parts.plugins.write("bridge", "exit 1")
    for _ in range(2):
        networks = parts.start()
        await networks.recover([])
        assert networks.to_take_back == 1
        await until(lambda: parts.plugins.calls[-1] == "DEL bridge s1")
        await networks.close()
        assert parts.records.rows
    parts.plugins.works("bridge")
    networks = parts.start()
    await networks.recover([])
    await until(lambda: not parts.records.rows)
    await networks.close()


async def test_a_record_that_cannot_be_read_is_named_and_stops_nobody(parts: Parts) -> None:
    await an_attachment(parts)
    parts.records.rows["s0"] = "{"
    networks = parts.start()
    assert list(await networks.recover(["s0", "s1"])) == ["s0"]
    assert networks.get("s1") is not None
    await until(lambda: any(call.startswith("GC") for call in parts.plugins.calls))
    assert {each["containerID"] for each in collected(parts)} == {"s0", "s1"}
    await networks.close()


async def test_no_pod_is_added_while_garbage_is_collected(parts: Parts) -> None:
    parts.plugins.write(
        "bridge",
        f"""
        if [ $CNI_COMMAND = GC ]; then
            touch {parts.root}/collecting
            while [ ! -e {parts.root}/go ]; do sleep 0.01; done
        fi
        [ $CNI_COMMAND = ADD ] && echo '{{"cniVersion": "1.1.0", "ips": [{{"address": "10.1.0.9/16"}}]}}'
        exit 0
        """,
    )
    networks = parts.start()
    await networks.recover([])
    await until((parts.root / "collecting").exists)
    adding = asyncio.create_task(networks.add(parts.pod("s2")))
    await asyncio.sleep(0.05)
    assert not parts.records.rows
    (parts.root / "go").touch()
    assert str((await adding).addresses[0]) == "10.1.0.9"
    await networks.close()


async def test_garbage_is_kept_where_that_is_wanted_or_none_is_known(parts: Parts) -> None:
    for more in ({"disableGC": True}, {"version": "1.0.0"}):
        parts.configure("bridge", **more)
        networks = parts.start()
        await networks.recover([])
        networks.changed()
        await networks.add(parts.pod())  # waits for a collection, if there were one
        await networks.remove("s1")
        await networks.close()
    assert not any(call.startswith("GC") for call in parts.plugins.calls)
