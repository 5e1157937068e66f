"""Other people's firewalls: what they do to us is undone, and what is theirs stays."""

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from runtimed.network.core.networks import Networks
from sampan.resource.container_spec import PortBinding
from sampan.resource.network import AddressPool, NetworkRequest
from tests.fakes.container_records import InMemoryRecords
from tests.integration.network.network_lab import HOST, WORLD, Lab, container, output, seen_as, server

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("iptables") is None, reason="iptables is not installed"),
]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110  # iptables tells nobody
            await asyncio.sleep(0.05)  # iptables tells nobody


async def test_containers_pass_a_firewall_that_drops_what_it_does_not_know(place: Lab) -> None:
    output("iptables -P FORWARD DROP")
    async with place.stack() as stack:
        await stack.recover(())
        web = container()
        settings = await stack.attach(web)
        with server(place.world, 80):
            assert seen_as(Path(settings.sandbox_path), WORLD, 80) == HOST
        await stack.detach(web.id)
    assert output("iptables -S FORWARD") == "-P FORWARD DROP\n"


async def test_firewall_that_closes_later_is_opened_again(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        output("iptables -P FORWARD DROP")
        await until(lambda: "-i lab0" in output("iptables -S FORWARD"))


def rules_of(table: str) -> list[str]:
    return output(f"nft --stateless list table ip {table}").splitlines() if f"ip {table}\n" in tables() else []


def tables() -> str:
    return output("nft list tables")


def handle(chain: str, rule: str) -> str:
    listing = output(f"nft --handle list chain ip lab {chain}").splitlines()
    return next(line.rpartition(" ")[2] for line in listing if rule in line)


DAMAGE: dict[str, Callable[[], str]] = {
    "everything flushed": lambda: "nft flush ruleset",
    "table deleted": lambda: "nft delete table ip lab",
    "table flushed": lambda: "nft flush table ip lab",
    "chain flushed": lambda: "nft flush chain ip lab forward",
    "early chain flushed": lambda: "nft flush chain ip lab raw",
    "rule deleted": lambda: f"nft delete rule ip lab raw handle {handle('raw', 'ip daddr 127.0.0.0/8')}",
    "rule inserted": lambda: "nft insert rule ip lab forward accept",
    "bridge taken out of its set": lambda: "nft delete element ip lab bridges { lab0 }",
    "published port led elsewhere": lambda: "nft flush map ip lab published",
    "table made dormant": lambda: "nft add table ip lab { flags dormant; }",
}


def is_done(damage: Callable[[], str]) -> bool:
    """Try to do it: the table may just now be put in its place once more."""
    with contextlib.suppress(StopIteration, subprocess.CalledProcessError):
        return subprocess.run(damage().split(), capture_output=True).returncode == 0
    return False


@pytest.mark.parametrize("damage", DAMAGE)
async def test_whatever_somebody_does_to_our_table_is_undone(place: Lab, damage: str) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        await stack.attach(container("web", "bridge", PortBinding(80, host_port=8080)))
        before = rules_of("lab")
        for _ in range(3):  # and again, and again
            await until(partial(is_done, DAMAGE[damage]))
            await until(lambda: rules_of("lab") == before)


def table_handle() -> str:
    """Return the kernel's number for our table, which is another one for each that is put in its place."""
    (line,) = (line for line in output("nft --handle list table ip lab").splitlines() if line.startswith("table"))
    return line.rpartition(" ")[2]


async def test_networks_come_and_go_without_the_table_being_replaced(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        networks = Networks(stack, InMemoryRecords())
        before, table = rules_of("lab"), table_handle()
        for number in range(5):
            await networks.create(NetworkRequest(f"n{number}", pools=(AddressPool(f"10.9.{number}.0/24"),)))
        assert all(f"10.9.{number}.0/24" in "".join(rules_of("lab")) for number in range(5))
        await networks.remove("n0")
        pruned = await networks.prune({})
        assert sorted(pruned) == ["n1", "n2", "n3", "n4"]
        assert (rules_of("lab"), table_handle()) == (before, table)
        assert "lab-" not in output("ip -brief link")


async def test_change_of_a_table_that_somebody_else_has_changed_makes_it_whole(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        await stack._guard.close()  # who would put it back by himself
        networks = Networks(stack, InMemoryRecords())
        before = rules_of("lab")
        await networks.create(NetworkRequest("side", pools=(AddressPool("10.9.0.0/24"),)))
        output("nft delete element ip lab subnets { 10.9.0.0/24 }")
        await networks.remove("side")
        assert rules_of("lab") == before
        output("nft delete table ip lab")
        await networks.create(NetworkRequest("side", pools=(AddressPool("10.9.0.0/24"),)))
        await networks.remove("side")
        assert rules_of("lab") == before


async def test_rules_of_ours_that_are_flushed_with_the_machines_firewall_come_back(place: Lab) -> None:
    output("iptables -P FORWARD DROP")
    async with place.stack() as stack:
        await stack.recover(())
        await until(lambda: "-i lab0" in output("iptables -S FORWARD"))
        output("iptables -F")
        await until(lambda: "-i lab0" in output("iptables -S FORWARD"))


async def test_rules_of_others_are_left_alone_by_a_repair(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        output("nft add table ip theirs")
        output("nft delete table ip lab")
        await until(lambda: "table ip lab" in tables())
        assert "table ip theirs" in tables()
