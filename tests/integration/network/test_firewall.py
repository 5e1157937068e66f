"""Other people's firewalls: what they do to us is undone, and what is theirs stays."""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.network.network_lab import HOST, WORLD, Lab, container, lab, output, seen_as, server

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("iptables") is None, reason="iptables is not installed"),
]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Lab]:
    with lab(tmp_path) as made:
        yield made


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
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


async def test_table_that_somebody_flushed_comes_back(place: Lab) -> None:
    async with place.stack() as stack:
        await stack.recover(())
        output("nft flush ruleset")
        await until(lambda: "table ip lab" in output("nft list tables"))
