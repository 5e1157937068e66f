"""What crid counts."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from crid.cni.model import Command
from crid.metrics import CriMetrics
from sampan.errors import UnavailableError


class Networks:
    """Two, and one on its way out."""

    count = 2
    to_take_back = 1


async def scrape(registry: CollectorRegistry) -> str:
    return (await asyncio.to_thread(generate_latest, registry)).decode()


async def test_plugins_phases_and_networks_are_counted() -> None:
    registry = CollectorRegistry()
    metrics = CriMetrics(registry)
    metrics.watch_networks(Networks())
    metrics.ran("bridge", Command.ADD, 0.02, "ok")
    with metrics.phase("network"):
        pass
    with pytest.raises(UnavailableError), metrics.phase("total"):
        raise UnavailableError("no")
    text = await scrape(registry)
    assert 'sampan_cri_cni_seconds_count{command="ADD",outcome="ok",plugin="bridge"} 1.0' in text
    assert 'sampan_cri_sandbox_seconds_count{phase="network"} 1.0' in text
    assert 'sampan_cri_sandbox_failures_total{phase="total"} 1.0' in text
    assert 'sampan_cri_sandbox_seconds_count{phase="total"}' not in text
    assert "sampan_cri_networks 2.0" in text
    assert "sampan_cri_networks_to_take_back 1.0" in text


async def test_pods_and_containers_are_counted_by_state_when_somebody_looks() -> None:
    registry = CollectorRegistry()
    away = False

    async def containers() -> list[str]:
        if away:
            raise UnavailableError("runtimed is away")
        return ["running", "running", "exited"]

    CriMetrics(registry).watch_states(lambda: ["ready"], containers)
    text = await scrape(registry)
    assert 'sampan_cri_pods{state="ready"} 1.0' in text
    assert 'sampan_cri_containers{state="running"} 2.0' in text
    assert 'sampan_cri_containers{state="exited"} 1.0' in text
    away = True
    assert "sampan_cri_pods" not in await scrape(registry)
