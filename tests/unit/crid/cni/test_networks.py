"""Pods' networks: brought up, taken back until that succeeds, and made good after a crash at any line."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from crid.cni.model import PluginError, PortMapping
from crid.cni.networks import PodNetworks
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, UnavailableError
from tests.fakes.cni_plugins import CniPlugins, result
from tests.unit.crid.cni.parts import Parts, until


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    parts = Parts(tmp_path, CniPlugins(tmp_path / "bin"))
    parts.plugins.works("bridge")
    parts.plugins.works("portmap")
    parts.configure("bridge", "portmap")
    return parts


@pytest.fixture
async def networks(parts: Parts) -> AsyncIterator[PodNetworks]:
    networks = parts.start()
    yield networks
    await networks.close()


async def test_a_pod_gets_what_the_chain_gives_and_gives_it_back(parts: Parts, networks: PodNetworks) -> None:
    pod = await networks.add(replace(parts.pod(), ports=(PortMapping(80, 8080),)))
    assert (pod.network, pod.addresses) == ("pods", (ip_address("10.1.0.2"),))
    assert networks.get("s1") == pod
    env = parts.plugins.env("bridge", "ADD")
    assert (env["CNI_CONTAINERID"], env["CNI_IFNAME"], env["CNI_NETNS"]) == ("s1", "eth0", str(parts.root / "ns-s1"))
    assert "K8S_POD_NAME=pod-s1" in env["CNI_ARGS"]
    first, second = parts.plugins.stdin("bridge", "ADD"), parts.plugins.stdin("portmap", "ADD")
    assert "prevResult" not in first
    assert second["prevResult"] == result("10.1.0.2/16")
    assert second["runtimeConfig"]["portMappings"][0]["hostPort"] == 8080
    assert (second["name"], second["cniVersion"], "capabilities" in second) == ("pods", "1.0.0", False)

    await networks.remove("s1")
    assert parts.plugins.calls == ["ADD bridge s1", "ADD portmap s1", "DEL portmap s1", "DEL bridge s1"]
    assert parts.plugins.stdin("bridge", "DEL") == {**second, "type": "bridge"}
    assert networks.get("s1") is None
    assert not parts.records.rows


async def test_a_namespace_is_made_while_the_disk_is_written_to_and_before_any_plugin(
    parts: Parts, networks: PodNetworks
) -> None:
    async def prepare() -> None:
        assert parts.plugins.calls == []

    assert (await networks.add(parts.pod(), prepare)).addresses


async def test_a_pod_whose_namespace_cannot_be_made_is_taken_back(parts: Parts, networks: PodNetworks) -> None:
    async def prepare() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await networks.add(parts.pod(), prepare)
    await until(lambda: not parts.records.rows)
    assert "ADD bridge s1" not in parts.plugins.calls


async def test_asked_twice_nothing_happens_twice(parts: Parts, networks: PodNetworks) -> None:
    first = await networks.add(parts.pod())
    assert await networks.add(parts.pod()) == first
    await networks.remove("s1")
    await networks.remove("s1")
    await networks.remove("never there")
    assert len(parts.plugins.calls) == 4


async def test_ipv4_comes_before_ipv6(parts: Parts, networks: PodNetworks) -> None:
    both = result("2001:db8::2/64")
    both["ips"].append({"address": "10.1.0.2/16"})
    parts.plugins.write("portmap", f"echo '{json.dumps(both)}'")
    pod = await networks.add(parts.pod())
    assert list(map(str, pod.addresses)) == ["10.1.0.2", "2001:db8::2"]


async def test_what_was_half_made_is_taken_back_in_the_background(parts: Parts, networks: PodNetworks) -> None:
    parts.plugins.write("portmap", """[ $CNI_COMMAND = DEL ] || { echo '{"code": 7, "msg": "no"}'; exit 1; }""")
    with pytest.raises(PluginError, match="no"):
        await networks.add(parts.pod())
    await until(lambda: not parts.records.rows)
    assert parts.plugins.calls == ["ADD bridge s1", "ADD portmap s1", "DEL portmap s1", "DEL bridge s1"]
    assert "prevResult" not in parts.plugins.stdin("bridge", "DEL")


async def test_taking_back_goes_on_until_it_succeeds(parts: Parts, networks: PodNetworks) -> None:
    await networks.add(parts.pod())
    parts.plugins.write("bridge", "echo down >&2; exit 1")
    with pytest.raises(PluginError, match="down"):
        await networks.remove("s1")
    assert networks.to_take_back == 1
    assert json.loads(parts.records.rows["s1"])["state"] == "removing"
    with pytest.raises(PluginError, match="down"):  # asked again, it says so again
        await networks.remove("s1")
    parts.plugins.works("bridge")
    await until(lambda: not parts.records.rows and not networks.to_take_back)
    await networks.remove("s1")


async def test_a_plugin_that_fails_to_delete_keeps_no_other_from_it(parts: Parts, networks: PodNetworks) -> None:
    await networks.add(parts.pod())
    parts.plugins.write("portmap", "exit 1")
    with pytest.raises(PluginError, match="portmap"):
        await networks.remove("s1")
    assert "DEL bridge s1" in parts.plugins.calls


async def test_a_changed_configuration_wakes_what_waits_and_taking_back_uses_the_old_one(
    parts: Parts, networks: PodNetworks
) -> None:
    await networks.add(parts.pod())
    parts.plugins.works("other", "10.2.0.2/16")
    parts.configure("other", version="0.4.0")
    networks.changed()
    await networks.remove("s1")
    assert parts.plugins.calls[-2:] == ["DEL portmap s1", "DEL bridge s1"]
    assert parts.plugins.stdin("bridge", "DEL")["cniVersion"] == "1.0.0"
    assert str((await networks.add(parts.pod("s2"))).addresses[0]) == "10.2.0.2"


async def test_an_address_that_another_pod_has_is_refused_and_given_back(parts: Parts, networks: PodNetworks) -> None:
    await networks.add(parts.pod())
    with pytest.raises(ConflictError, match=r"gave 10\.1\.0\.2, which sandbox s1 has"):
        await networks.add(parts.pod("s2"))
    await until(lambda: list(parts.records.rows) == ["s1"])
    assert "DEL bridge s2" in parts.plugins.calls
    assert networks.get("s1") is not None


async def test_a_result_without_an_address_is_no_network(parts: Parts, networks: PodNetworks) -> None:
    parts.plugins.write("portmap", """[ $CNI_COMMAND = ADD ] && echo '{"cniVersion": "1.0.0"}'; exit 0""")
    with pytest.raises(PluginError, match="no address for eth0"):
        await networks.add(parts.pod())
    await until(lambda: not parts.records.rows)


async def test_a_result_that_is_none_names_the_plugin(parts: Parts, networks: PodNetworks) -> None:
    parts.plugins.write("bridge", "exit 0")
    with pytest.raises(PluginError, match="CNI plugin bridge ADD: the result is not a JSON object"):
        await networks.add(parts.pod())


async def test_cancelled_in_the_middle_it_is_taken_back(parts: Parts, networks: PodNetworks) -> None:
    parts.plugins.write("portmap", "[ $CNI_COMMAND = DEL ] || exec sleep 1000")
    adding = asyncio.create_task(networks.add(parts.pod()))
    await until(lambda: "ADD portmap s1" in parts.plugins.calls)
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    await until(lambda: not parts.records.rows)
    parts.plugins.works("portmap")
    assert (await networks.add(parts.pod())).addresses


async def test_the_same_pod_asked_for_again_waits_for_what_is_taken_back(parts: Parts, networks: PodNetworks) -> None:
    parts.plugins.write("portmap", "exit 1")
    with pytest.raises(PluginError):
        await networks.add(parts.pod())
    with pytest.raises(PluginError, match="DEL"):
        await networks.add(parts.pod())
    parts.plugins.works("portmap")
    assert (await networks.add(parts.pod())).addresses
    assert json.loads(parts.records.rows["s1"])["state"] == "added"


async def test_a_removal_whose_caller_leaves_goes_on_and_its_plugins_are_not_killed(
    parts: Parts, networks: PodNetworks
) -> None:
    await networks.add(parts.pod())
    parts.plugins.write("bridge", f"while [ ! -e {parts.root}/go ]; do sleep 0.01; done")
    removing = asyncio.create_task(networks.remove("s1"))
    await until(lambda: "DEL bridge s1" in parts.plugins.calls)
    removing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await removing
    (parts.root / "go").touch()
    await networks.remove("s1")  # waits for it
    assert not parts.records.rows
    assert parts.plugins.calls.count("DEL bridge s1") == 1


async def test_a_removal_is_not_waited_for_for_ever_at_the_end(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crid.cni.networks._CLOSE_S", 0.05)
    networks = parts.start()
    await networks.add(parts.pod())
    parts.plugins.write("bridge", "exec sleep 1000")
    removing = asyncio.create_task(networks.remove("s1"))
    await until(lambda: "DEL bridge s1" in parts.plugins.calls)
    await networks.close()
    with pytest.raises(asyncio.CancelledError):
        await removing
    assert json.loads(parts.records.rows["s1"])["state"] == "removing"


async def test_fifty_at_once_with_the_network_down_all_end_and_leave_nothing(parts: Parts) -> None:
    networks = parts.start(timeout_s=2.0)
    parts.plugins.write("bridge", "[ $CNI_COMMAND = DEL ] || exec sleep 1000")
    asked = (networks.add(parts.pod(f"s{n}")) for n in range(50))
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert {type(answer) for answer in answers} == {UnavailableError}
    await until(lambda: not parts.records.rows)
    await networks.close()


async def test_a_namespace_that_is_gone_is_not_named(parts: Parts, networks: PodNetworks) -> None:
    await networks.add(parts.pod())
    (parts.root / "ns-s1").unlink()
    await networks.remove("s1")
    assert "CNI_NETNS" not in parts.plugins.env("bridge", "DEL")


async def test_without_a_usable_configuration_pods_are_refused_with_the_reason(parts: Parts) -> None:
    (parts.net_d / "10-pods.conflist").write_text("{")
    networks = parts.start()
    with pytest.raises(UnavailableError, match=r"10-pods\.conflist"):
        await networks.add(parts.pod())
    condition = await networks.condition()
    assert (condition.ready, condition.reason) == (False, "NetworkPluginNotReady")
    assert "10-pods.conflist" in condition.message
    assert not parts.records.rows


async def test_a_version_that_a_plugin_does_not_speak_is_the_reason(parts: Parts, networks: PodNetworks) -> None:
    parts.plugins.works("portmap", versions=("0.3.1", "0.4.0"))
    condition = await networks.condition()
    assert "portmap speaks 0.3.1, 0.4.0" in condition.message
    with pytest.raises(UnavailableError, match="portmap speaks"):
        await networks.add(parts.pod())


async def test_a_plugin_that_is_installed_later_makes_the_network_ready(parts: Parts, networks: PodNetworks) -> None:
    parts.configure("bridge", "late")
    networks.changed()
    assert "late is not in" in (await networks.condition()).message
    parts.plugins.works("late")
    networks.changed()
    assert (await networks.condition()).ready


async def test_plugins_say_by_status_that_they_cannot(parts: Parts, networks: PodNetworks) -> None:
    status = """[ $CNI_COMMAND != STATUS ] || { echo '{"code": 50, "msg": "no route to the fabric"}'; exit 1; }"""
    parts.plugins.write("portmap", status)
    assert (await networks.condition()).ready  # of a version that has no STATUS
    parts.configure("bridge", "portmap", version="1.1.0")
    networks.changed()
    condition = await networks.condition()
    assert not condition.ready
    assert "no route to the fabric" in condition.message
    assert parts.plugins.stdin("portmap", "STATUS") == {"type": "portmap", "name": "pods", "cniVersion": "1.1.0"}
    assert "CNI_CONTAINERID" not in parts.plugins.env("portmap", "STATUS")


async def test_check_finds_what_is_broken(parts: Parts, networks: PodNetworks) -> None:
    with pytest.raises(NotFoundError):
        await networks.check("s1")
    await networks.add(parts.pod())
    await networks.check("s1")
    assert parts.plugins.stdin("bridge", "CHECK")["prevResult"] == result("10.1.0.2/16")
    parts.plugins.write("bridge", "[ $CNI_COMMAND = CHECK ] && { echo gone >&2; exit 1; }; exit 0")
    with pytest.raises(PluginError, match="gone"):
        await networks.check("s1")


async def test_portmap_is_asked_again_for_the_families_that_a_pod_has(
    parts: Parts, networks: PodNetworks, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = CniPlugins(parts.root / "tools")
    for tool in ("iptables", "ip6tables"):
        tools.write(tool, "exit 0")
    monkeypatch.setenv("PATH", str(tools.directory), prepend=":")
    looks = "[ $CNI_COMMAND = CHECK ] && ip6tables && { echo no IPv6 rules >&2; exit 1; }"
    parts.plugins.write("portmap", f"{looks}; echo '{json.dumps(result('10.1.0.2/16'))}'")
    await networks.add(parts.pod())
    await networks.check("s1")
    assert parts.plugins.calls.count("CHECK portmap s1") == 2
    assert parts.plugins.stdin("portmap", "CHECK")["prevResult"] == result("10.1.0.2/16")
    parts.plugins.write("portmap", "echo no rules >&2; exit 1")
    with pytest.raises(PluginError, match="no rules"):
        await networks.check("s1")
    parts.plugins.works("portmap")


@pytest.mark.parametrize("more", [{"disableCheck": True}, {"version": "0.3.1"}])
async def test_check_is_not_asked_where_there_is_none(parts: Parts, more: dict[str, str]) -> None:
    parts.configure("bridge", **more)
    networks = parts.start()
    await networks.add(parts.pod())
    await networks.check("s1")
    assert "CHECK bridge s1" not in parts.plugins.calls
    await networks.remove("s1")
    assert ("prevResult" in parts.plugins.stdin("bridge", "DEL")) == ("version" not in more)


async def test_ranges_are_told_to_plugins_that_ask_and_outlive_the_process(parts: Parts, networks: PodNetworks) -> None:
    parts.net_d.joinpath("10-pods.conflist").write_text(
        json.dumps(
            {
                "cniVersion": "1.0.0",
                "name": "pods",
                "plugins": [{"type": "bridge", "capabilities": {"ipRanges": True}}],
            }
        )
    )
    await networks.set_ranges("10.1.0.0/24, fd00::/64")
    with pytest.raises(InvalidArgumentError, match="pod CIDR"):
        await networks.set_ranges("10.1.0.0/24,pods")
    again = parts.start()
    await again.recover([])
    await again.add(parts.pod())
    ranges = [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]
    assert parts.plugins.stdin("bridge", "ADD")["runtimeConfig"] == {"ipRanges": ranges}
    await again.close()


async def test_plugins_are_counted(parts: Parts, networks: PodNetworks) -> None:
    await networks.add(parts.pod())
    assert ("bridge", "ADD", "ok") in parts.meter.ran_so_far
    assert ("bridge", "VERSION", "ok") in parts.meter.ran_so_far
    parts.plugins.write("bridge", "exit 1")
    with pytest.raises(PluginError):
        await networks.remove("s1")
    assert ("bridge", "DEL", "refused") in parts.meter.ran_so_far
