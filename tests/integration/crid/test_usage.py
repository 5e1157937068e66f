"""What kubelet is told of usage, of images, and of what happens, on a real engine."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from runtimed.host.facts import cgroup_trees
from sampan.api.cri.v1 import config_pb2, image_pb2, stats_pb2
from sampan.api.cri.v1 import sandbox_pb2 as s
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.pods import Crid
from tests.support.registry import Registry
from tests.support.tools import eventually

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not Path("/usr/lib/cni/ptp").exists(), reason="containernetworking-plugins is not installed"),
]

BUSY = ("sh", "-c", "while :; do :; done")


@pytest.fixture
def busy(cri: Crid, image: str, name: str) -> Iterator[tuple[str, str]]:
    """A pod and its container, which uses a processor."""
    sandbox = cri.run(cri.pod(name, labels={"app": name}))
    limits = {"memory_limit_in_bytes": 64 << 20, "cpu_quota": 50_000, "cpu_period": 100_000}
    yield sandbox, cri.running(sandbox, cri.container("main", *BUSY, image=image, resources=limits))
    cri.remove(sandbox)


def test_a_container_and_its_pod_use_what_the_kernel_says(cri: Crid, busy: tuple[str, str], name: str) -> None:
    sandbox, container = busy
    one = stats_pb2.ContainerStatsRequest(container_id=container)
    eventually(
        lambda: cri.runtime.ContainerStats(one).stats.cpu.usage_core_nano_seconds.value > 300_000_000, "it has run"
    )
    eventually(lambda: cri.runtime.ContainerStats(one).stats.cpu.HasField("usage_nano_cores"), "there is a rate")
    # Half a processor is allowed; a busy machine has less to give, and may be late to look at the clock once.
    eventually(
        lambda: 0 < cri.runtime.ContainerStats(one).stats.cpu.usage_nano_cores.value < 900_000_000, "it is held to it"
    )
    stats = cri.runtime.ContainerStats(one).stats
    assert 0 < stats.memory.working_set_bytes.value < 64 << 20
    assert stats.memory.available_bytes.value == (64 << 20) - stats.memory.working_set_bytes.value
    listed = cri.runtime.ListContainerStats(
        stats_pb2.ListContainerStatsRequest(filter=stats_pb2.ContainerStatsFilter(pod_sandbox_id=sandbox))
    ).stats
    assert [each.attributes.id for each in listed] == [container]
    cri.output(container, "sh", "-c", "head -c 1000000 /dev/zero > /file")
    eventually(
        lambda: cri.runtime.ContainerStats(one).stats.writable_layer.used_bytes.value >= 1_000_000,
        "what it wrote is measured",
    )

    labelled = stats_pb2.PodSandboxStatsFilter(label_selector={"app": name})
    (pod,) = cri.runtime.ListPodSandboxStats(stats_pb2.ListPodSandboxStatsRequest(filter=labelled)).stats
    assert pod.attributes.id == sandbox
    assert pod.linux.cpu.usage_core_nano_seconds.value >= stats.cpu.usage_core_nano_seconds.value
    assert pod.linux.network.default_interface.name == "eth0"
    assert pod.linux.process.process_count.value >= 1
    assert [each.attributes.id for each in pod.linux.containers] == [container]


def test_metrics_of_a_pod_go_by_their_descriptors(cri: Crid, busy: tuple[str, str], name: str) -> None:
    sandbox, container = busy
    described = cri.runtime.ListMetricDescriptors(stats_pb2.ListMetricDescriptorsRequest()).descriptors
    keys = {each.name: list(each.label_keys) for each in described}
    pods = cri.runtime.ListPodSandboxMetrics(stats_pb2.ListPodSandboxMetricsRequest()).pod_metrics
    (pod,) = (each for each in pods if each.pod_sandbox_id == sandbox)
    (own,) = pod.container_metrics
    assert own.container_id == container
    found: dict[str, dict[str, str]] = {}
    for metric in (*pod.metrics, *own.metrics):
        assert len(metric.label_values) == len(keys[metric.name])
        found.setdefault(metric.name, dict(zip(keys[metric.name], metric.label_values, strict=True)))
    group = found["container_memory_rss"]["id"]
    there = [each for tree in cgroup_trees() if (each := Path(f"{tree.path}{group}")).is_dir()]
    assert there
    files = {file.name for each in there for file in each.iterdir()}
    seldom = ["container_blkio", "container_fs_reads", "container_fs_writes"]  # by device
    seldom += [] if "memory.pressure" in files else ["container_pressure"]
    seldom += [] if any(each.startswith("hugetlb.") for each in files) else ["container_hugetlb"]
    assert {each for each in keys if not each.startswith(tuple(seldom))} <= found.keys()
    assert not {each for each in found if each.startswith(tuple(seldom[3:]))}
    assert found["container_memory_rss"]["pod"] == name


def test_what_happens_is_told_with_the_pod_as_it_is(cri: Crid, image: str, name: str) -> None:
    events = cri.runtime.GetContainerEvents(s.GetEventsRequest(), timeout=120)
    events.initial_metadata()  # nothing is missed from here on
    sandbox = cri.run(cri.pod(name))
    container = cri.running(sandbox, cri.container("main", "sleep", "1000", image=image))
    cri.stop_container(container)
    cri.remove(sandbox)
    told = []
    for event in events:
        told.append((event.container_id, event.container_event_type))
        if event.container_event_type == s.CONTAINER_STARTED_EVENT:
            assert event.pod_sandbox_status.id == sandbox
        if told[-1] == (sandbox, s.CONTAINER_DELETED_EVENT):
            break
    events.cancel()
    kinds = (
        s.CONTAINER_CREATED_EVENT, s.CONTAINER_STARTED_EVENT, s.CONTAINER_STOPPED_EVENT, s.CONTAINER_DELETED_EVENT,
    )  # fmt: skip
    assert [each for each in told if each[0] == sandbox] == [(sandbox, kind) for kind in kinds]
    assert [each for each in told if each[0] == container] == [(container, kind) for kind in kinds]


def test_images_are_pulled_shown_and_removed_as_docker_has_them(
    cri: Crid, docker: DockerClient, registry: Registry, image: str, name: str
) -> None:
    spec = config_pb2.ImageSpec(image=image)
    pulled = cri.images.PullImage(image_pb2.PullImageRequest(image=spec), timeout=60).image_ref
    shown = cri.images.ImageStatus(image_pb2.ImageStatusRequest(image=spec, verbose=True))
    assert shown.image.id == pulled == docker("inspect", "--format", "{{.Id}}", image).stdout.strip()
    assert image in shown.image.repo_tags
    assert shown.image.size > 0
    other = f"{registry.address}/{name}:1"
    docker("tag", image, other)
    cri.images.RemoveImage(image_pb2.RemoveImageRequest(image=config_pb2.ImageSpec(image=other)))
    assert cri.images.ImageStatus(image_pb2.ImageStatusRequest(image=spec)).image.id == pulled
    sandbox = cri.run(cri.pod(name))
    cri.create(sandbox, cri.container("main", "true", image=image))
    with pytest.raises(grpc.RpcError) as refused:
        cri.images.RemoveImage(image_pb2.RemoveImageRequest(image=config_pb2.ImageSpec(image=pulled)))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    cri.remove(sandbox)


def test_what_images_take_is_what_is_on_disk(cri: Crid, engine: Engine, image: str) -> None:
    def told() -> stats_pb2.FilesystemUsage:
        (images,) = cri.images.ImageFsInfo(image_pb2.ImageFsInfoRequest()).image_filesystems
        return images

    images = told()
    assert Path(images.fs_id.mountpoint) == engine.layout.data("snapshotter")

    def allocated(directory: Path) -> int:
        counted = subprocess.run(["du", "--block-size=1", "-s", directory], capture_output=True, check=False)
        return int(counted.stdout.split()[0])  # of a file that has just gone it says so, and goes on

    blobs, layers = engine.layout.data("imaged"), engine.layout.data("snapshotter")
    # Between the two what is thrown away may go.
    eventually(lambda: 0 < told().used_bytes.value <= allocated(blobs) + allocated(layers), "it is what there is")
    assert images.inodes_used.value > 1
