"""Usage as CRI has it."""

from datetime import UTC, datetime

from crid.stats.usage import PodUse
from crid.wire.stats_servicer import pod_to_proto
from sampan.resource.stats import ContainerSample, Pressure, Stall
from tests.unit.crid.stats.test_usage import sandbox

READ = datetime(2026, 1, 1, tzinfo=UTC)
PRESSURE = Pressure(Stall(1_500_000, 2.5, 1.5, 0.5), Stall(2))


def test_how_long_a_pod_waits_is_told_where_it_has_a_cgroup() -> None:
    own = ContainerSample("/pod", READ, working_set_bytes=7, cpu_pressure=PRESSURE, io_pressure=PRESSURE)
    told = pod_to_proto(PodUse(sandbox("a"), 5, 1, None, (), None, None, own), ()).linux
    some = told.cpu.psi.Some
    assert (some.Total, some.Avg10, some.Avg60, some.Avg300) == (1_500_000_000, 2.5, 1.5, 0.5)
    assert told.io.psi.Full.Total == 2000
    assert told.memory.working_set_bytes.value == 7
    assert not told.memory.HasField("psi")  # the kernel does not say
    assert not told.memory.HasField("available_bytes")


def test_a_sum_of_containers_says_nothing_of_waiting() -> None:
    infra = ContainerSample("h", READ, working_set_bytes=7, memory_limit_bytes=10, cpu_pressure=PRESSURE)
    told = pod_to_proto(PodUse(sandbox("a"), 5, 1, None, (), infra, None), ()).linux
    assert not told.cpu.HasField("psi")
    assert not told.HasField("io")
    assert not told.memory.HasField("psi")
    assert told.memory.available_bytes.value == 3
