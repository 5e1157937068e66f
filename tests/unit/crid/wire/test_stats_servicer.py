"""Usage as CRI has it."""

from datetime import UTC, datetime

from crid.cni.kernel import Counters
from crid.stats.usage import ContainerUse, PodUse
from crid.wire.usage import fill_container, fill_pod
from sampan.api.cri.v1 import stats_pb2 as pb
from sampan.resource.stats import ContainerSample, Pressure, Stall
from tests.unit.crid.stats.test_usage import record, sandbox

READ = datetime(2026, 1, 1, tzinfo=UTC)
PRESSURE = Pressure(Stall(1_500_000, 2.5, 1.5, 0.5), Stall(2))


def told_of(use: PodUse) -> pb.LinuxPodSandboxStats:
    made = pb.PodSandboxStats()
    fill_pod(made, use, "/layers")
    return made.linux


def test_how_long_a_pod_waits_is_told_where_it_has_a_cgroup() -> None:
    own = ContainerSample("/pod", READ, working_set_bytes=7, cpu_pressure=PRESSURE, io_pressure=PRESSURE)
    told = told_of(PodUse(sandbox("a"), 5, 1, None, (), None, None, own))
    some = told.cpu.psi.Some
    assert (some.Total, some.Avg10, some.Avg60, some.Avg300) == (1_500_000_000, 2.5, 1.5, 0.5)
    assert told.io.psi.Full.Total == 2000
    assert told.memory.working_set_bytes.value == 7
    assert not told.memory.HasField("psi")  # the kernel does not say
    assert not told.memory.HasField("available_bytes")


def test_a_sum_of_containers_says_nothing_of_waiting() -> None:
    infra = ContainerSample("h", READ, working_set_bytes=7, memory_limit_bytes=10, cpu_pressure=PRESSURE)
    told = told_of(PodUse(sandbox("a"), 5, 1, None, (), infra, None))
    assert not told.cpu.HasField("psi")
    assert not told.HasField("io")
    assert not told.memory.HasField("psi")
    assert told.memory.available_bytes.value == 3


def test_a_number_that_is_zero_is_told_and_one_that_is_not_known_is_not() -> None:
    told = told_of(PodUse(sandbox("a"), 5, 0, None, (), ContainerSample("h", READ), (counters("eth0"),)))
    assert told.cpu.HasField("usage_core_nano_seconds")
    assert not told.cpu.HasField("usage_nano_cores")
    assert told.process.HasField("process_count")
    assert told.memory.HasField("page_faults")
    assert told.network.default_interface.HasField("rx_errors")


def test_the_first_interface_is_the_default_one_and_loopback_is_none() -> None:
    told = told_of(PodUse(sandbox("a"), 5, 0, None, (), None, (counters("lo"), counters("eth0"), counters("net1"))))
    assert told.network.default_interface.name == "eth0"
    assert [each.name for each in told.network.interfaces] == ["net1"]


def test_a_pod_on_the_hosts_network_says_nothing_of_it() -> None:
    assert not told_of(PodUse(sandbox("a"), 5, 0, None, (), None, None)).HasField("network")


def test_a_container_that_does_not_run_is_named_alone() -> None:
    told = pb.ContainerStats()
    fill_container(told, ContainerUse(record("c", "a"), None), "/layers")
    assert told.attributes.id == "c" * 64
    assert [field.name for field, _ in told.ListFields()] == ["attributes"]


def test_what_a_container_has_written_is_told_with_the_time_of_its_measurement() -> None:
    sample = ContainerSample("c", READ, layer_bytes=3, layer_inodes=0, layer_read=READ)
    told = pb.ContainerStats()
    fill_container(told, ContainerUse(record("c", "a"), sample, 4), "/layers")
    assert told.writable_layer.fs_id.mountpoint == "/layers"
    assert told.writable_layer.timestamp == int(READ.timestamp()) * 1_000_000_000
    assert (told.writable_layer.used_bytes.value, told.cpu.usage_nano_cores.value) == (3, 4)
    assert told.writable_layer.HasField("inodes_used")
    assert not told.swap.HasField("swap_available_bytes")


def counters(interface: str) -> Counters:
    return Counters(interface, *(0,) * 8)
