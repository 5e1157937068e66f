"""crid is killed between any two things that it does for a pod's network; the next one leaves nothing behind."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from crid.cni.chain import Chain
from crid.cni.model import Attachment, Network, Plugin, PodRequest, Result, State
from crid.cni.networks import PodNetworks
from crid.cni.results import parse
from tests.fakes.cni_plugins import result
from tests.fakes.cni_records import InMemoryAttachmentRecords
from tests.fakes.crashes import KilledError, Steps
from tests.unit.crid.cni.parts import until

NETWORK = Network(
    "pods", ("1.1.0",), tuple(Plugin(name, {"type": name}) for name in ("first", "second")), Path("/net.d/10.conflist")
)


@dataclass
class Machine:
    """What outlives crid: rows, and what plugins have made."""

    rows: dict[str, str] = field(default_factory=dict)
    made: dict[tuple[str, str], str] = field(default_factory=dict)  # by plugin and sandbox
    deleted_with: list[bool] = field(default_factory=list)  # whether DEL was told the result of ADD


class SteppedRecords(InMemoryAttachmentRecords):
    """Rows that outlive it."""

    def __init__(self, machine: Machine, steps: Steps) -> None:
        super().__init__()
        self.rows = machine.rows
        self._steps = steps

    async def put(self, attachment: Attachment) -> None:
        self._steps.step(f"record {attachment.state.value}")
        await super().put(attachment)

    async def drop(self, sandbox: str) -> None:
        self._steps.step("forget")
        await super().drop(sandbox)


class SteppedChain:
    """Two plugins, each of which may be the last thing that crid has asked for."""

    def __init__(self, machine: Machine, steps: Steps) -> None:
        self._machine = machine
        self._steps = steps

    async def version(self, network: Network) -> str:
        return "1.1.0"

    async def add(self, attachment: Attachment) -> Result:
        for plugin in attachment.network.plugins:
            self._steps.step(f"ADD {plugin.type}")
            self._machine.made[plugin.type, attachment.sandbox] = "10.1.0.2"
            await asyncio.sleep(0)
        return parse(result("10.1.0.2/16", "1.1.0"), "1.1.0")

    async def delete(self, attachment: Attachment) -> None:
        for plugin in reversed(attachment.network.plugins):
            self._steps.step(f"DEL {plugin.type}")
            self._machine.made.pop((plugin.type, attachment.sandbox), None)
            self._machine.deleted_with.append(attachment.result is not None)
            await asyncio.sleep(0)

    async def check(self, attachment: Attachment) -> None:
        assert attachment.state is State.ADDED

    async def collect(
        self, network: Network, version: str, valid: Collection[tuple[str, str]], timeout_s: float
    ) -> list[Exception]:
        assert {sandbox for _, sandbox in self._machine.made} <= {sandbox for sandbox, _ in valid}
        return []


def life(machine: Machine, steps: Steps) -> PodNetworks:
    chain = cast("Chain", SteppedChain(machine, steps))
    records = SteppedRecords(machine, steps)
    return PodNetworks(lambda: NETWORK, chain, records, lambda _: True, lambda _: 0, first_wait_s=0.001)


async def add(networks: PodNetworks) -> None:
    await networks.add(PodRequest("s1", Path("/ns"), "web", "default", "uid"))


async def remove(networks: PodNetworks) -> None:
    await networks.remove("s1")


@pytest.mark.parametrize("act", [add, remove])
async def test_whatever_is_left_belongs_to_a_pod_that_lives_or_is_taken_back(
    act: Callable[[PodNetworks], Awaitable[None]],
) -> None:
    killed_before: list[str] = []
    for number in range(20):
        machine, steps = Machine(), Steps()
        first = life(machine, steps)
        if act is remove:
            await add(first)
        steps.arm(number, lambda: None)
        with suppress(KilledError):
            await act(first)
        if not steps.killed:
            assert number == len(steps.taken)
            break
        await first.close()
        told = steps.taken[-1:] == ["record added"]  # crid may have told kubelet of it
        killed_before.append(" ".join(steps.taken[-1:]))

        for live in ([], ["s1"]):
            rows, made = dict(machine.rows), dict(machine.made)
            again = Machine(rows, made)
            second = life(again, Steps())
            assert await second.recover(live) == {}
            if live and second.get("s1") is not None:
                assert act is remove or told
                assert len(again.made) == 2
                await second.remove("s1")
            await until(lambda again=again: not again.rows)  # type: ignore[misc]
            assert again.made == {}
            await add(second)
            assert len(again.made) == 2
            await second.close()
    else:
        pytest.fail("it never was not killed")
    assert len(killed_before) == 4, killed_before


async def test_what_is_taken_back_in_the_background_is_killed_and_goes_on() -> None:
    machine = Machine()
    networks = life(machine, Steps())
    await add(networks)
    await networks.close()
    for number in range(10):
        steps = Steps()
        steps.arm(number, lambda: None)
        networks = life(machine, steps)
        with suppress(KilledError):
            await networks.recover([])
        await until(lambda steps=steps: steps.killed or not machine.rows)  # type: ignore[misc]
        await networks.close()
        if not machine.rows:
            break
    assert (machine.rows, machine.made) == ({}, {})
    assert all(machine.deleted_with)
