"""Containers as Prometheus sees them."""

import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtimed.cgroups.reader import CgroupReader
from runtimed.host.facts import CgroupTree
from runtimed.stats.container_labels import ContainerLabels
from runtimed.stats.container_metrics import ContainerSeries
from sampan.resource.container import Container, ContainerState, Health, HealthStatus, Status
from sampan.resource.container_spec import ContainerSpec, Resources
from tests.support.prometheus import complaints
from tests.unit.runtimed.bundle_values import HOST

START = datetime(2026, 1, 2, tzinfo=UTC)
FILES = {
    "cpu.stat": "usage_usec 2000000\nuser_usec 1500000\nsystem_usec 500000\n",
    "memory.current": "1000\n",
    "memory.max": "5000\n",
    "memory.stat": "anon 600\nfile 300\ninactive_file 250\n",
    "cgroup.procs": "30\n31\n",
    "pids.current": "4\n",
    "io.stat": "8:0 rbytes=4096 wbytes=512 rios=2 wios=1\n",
}

Samples = dict[str, list[tuple[dict[str, str], float]]]


def up(name: str, **labels: str) -> Container:
    state = ContainerState(Status.RUNNING, pid=os.getpid(), started_at=START)
    spec = ContainerSpec(name=name, image="app:1", labels=labels, resources=Resources(nano_cpus=500_000_000))
    return Container(name * 64, spec, START, state, cgroup_path=f"/sampan/{name * 64}")


def down(name: str) -> Container:
    state = ContainerState(Status.EXITED, exit_code=137, oom_killed=True, finished_at=START)
    return Container(name * 64, ContainerSpec(name=name), START, state, restart_count=3, cgroup_path="/sampan/gone")


def scrape(root: Path, *containers: Container) -> tuple[Samples, bytes]:
    for container in containers:
        if container.state.status is Status.RUNNING and container.name != "v":
            directory = root / container.cgroup_path[1:]
            directory.mkdir(parents=True, exist_ok=True)
            for name, content in FILES.items():
                (directory / name).write_text(content)
    reader = CgroupReader((CgroupTree(root, 2, frozenset()),))
    series = ContainerSeries(lambda: containers, reader, HOST, ContainerLabels(("com.example/team",)))
    text = "".join(series.render()).encode()
    samples: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples, text


def of(samples: Samples, metric: str, name: str) -> float:
    (value,) = [value for labels, value in samples[metric] if labels["name"] == name]
    return value


def test_a_running_container_has_cadvisors_series(tmp_path: Path) -> None:
    samples, _ = scrape(tmp_path, up("a"))
    assert of(samples, "container_cpu_usage_seconds_total", "a") == 2.0
    assert of(samples, "container_memory_usage_bytes", "a") == 1000
    assert of(samples, "container_memory_working_set_bytes", "a") == 750
    assert of(samples, "container_spec_memory_limit_bytes", "a") == 5000
    assert of(samples, "container_spec_cpu_quota", "a") == 50_000
    assert of(samples, "container_processes", "a") == 2
    assert of(samples, "container_threads", "a") == 4
    assert of(samples, "container_start_time_seconds", "a") == START.timestamp()
    assert of(samples, "container_fs_reads_bytes_total", "a") == 4096
    labels = samples["container_cpu_usage_seconds_total"][1][0]
    assert labels == {"id": "/sampan/" + "a" * 64, "name": "a", "image": "app:1", "cpu": "total"}


def test_the_host_is_a_row_of_its_own(tmp_path: Path) -> None:
    samples, _ = scrape(tmp_path, up("a"))
    (host,) = [value for labels, value in samples["container_memory_usage_bytes"] if labels["id"] == "/"]
    assert host > 0
    assert samples["machine_cpu_cores"] == [({}, 2.0)]
    assert samples["machine_memory_bytes"] == [({}, float(8 << 30))]


def test_a_stopped_container_says_how_it_ended(tmp_path: Path) -> None:
    samples, _ = scrape(tmp_path, up("a"), down("d"))
    assert of(samples, "sampan_container_exit_code", "d") == 137
    assert of(samples, "sampan_container_oom_killed", "d") == 1
    assert of(samples, "sampan_container_policy_restarts", "d") == 3
    assert [labels["state"] for labels, _ in samples["sampan_container_state"]] == ["running", "exited"]
    assert [labels["name"] for labels, _ in samples["container_last_seen"]] == ["", "a"]


def test_all_samples_of_a_family_have_the_same_labels(tmp_path: Path) -> None:
    samples, _ = scrape(tmp_path, up("a", **{"com.example/team": "x"}), up("b", other="y"), down("d"))
    for name, rows in samples.items():
        assert name == "sampan_container_info" or len({frozenset(labels) for labels, _ in rows}) == 1, name
    assert samples["container_memory_rss"][1][0]["container_label_com_example_team"] == "x"
    assert samples["container_memory_rss"][2][0]["container_label_com_example_team"] == ""


def test_a_container_that_vanishes_is_left_out(tmp_path: Path) -> None:
    samples, _ = scrape(tmp_path, up("a"), up("v"))
    assert [labels["name"] for labels, _ in samples["container_memory_rss"]] == ["", "a"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_has_nothing_to_say(tmp_path: Path) -> None:
    _, text = scrape(tmp_path, up("a", **{"com.example/team": "x"}), down("d"))
    assert complaints(text) == []


def test_the_machine_is_told_of_under_cadvisors_names(tmp_path: Path) -> None:
    samples, _ = scrape(tmp_path, up("a"))
    assert samples["machine_cpu_cores"] == [({}, float(HOST.cpus))]
    ((_, swap),) = samples["machine_swap_bytes"]
    assert swap >= 0
    ((versions, one),) = samples["cadvisor_version_info"]
    assert (versions["kernelVersion"], one) == (HOST.kernel, 1)


def test_each_file_system_is_told_once_in_the_host_s_row(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    reader = CgroupReader((CgroupTree(tmp_path, 2, frozenset()),))
    disks = (tmp_path, tmp_path / "below", tmp_path / "gone")
    text = "".join(ContainerSeries(lambda: (), reader, HOST, disks=disks).render())
    rows = [line for line in text.splitlines() if line.startswith("container_fs_usage_bytes{")]
    assert len(rows) == 1
    assert 'id="/"' in rows[0]
    assert 'device="' in rows[0]


@pytest.mark.parametrize("health", list(HealthStatus))
def test_health_is_told_of_containers_that_run_and_are_checked(tmp_path: Path, health: HealthStatus) -> None:
    checked, ended = up("a"), down("d")
    checked = replace(checked, state=replace(checked.state, health=Health(health)))
    ended = replace(ended, state=replace(ended.state, health=Health(HealthStatus.UNHEALTHY)))
    samples, _ = scrape(tmp_path, checked, ended, up("b"))
    assert [(labels["name"], labels["health"]) for labels, _ in samples["sampan_container_health"]] == [
        ("a", health.value)
    ]


def info(samples: Samples, name: str) -> dict[str, str]:
    (labels,) = [labels for labels, _ in samples["sampan_container_info"] if labels["name"] == name]
    return {key.removeprefix("container_label_"): value for key, value in labels.items() if "label" in key}


def left_out(samples: Samples) -> dict[str, float]:
    return {labels["reason"]: value for labels, value in samples["sampan_container_labels_left_out"]}


def test_labels_are_told_once_per_container(tmp_path: Path) -> None:
    samples, text = scrape(tmp_path, up("a", **{"com.example/team": "x", "tier": "web"}), down("d"))
    assert info(samples, "a") == {"com_example_team": "x", "tier": "web"}
    assert info(samples, "d") == {}
    assert text.count(b"container_label_tier") == 1
    assert left_out(samples) == {"per_container": 0, "too_long": 0, "in_all": 0}


def test_labels_of_one_container_are_bounded(tmp_path: Path) -> None:
    many = {f"key{number}": "v" for number in range(9_900)}
    samples, text = scrape(tmp_path, up("a", **many, long="x" * 257))
    assert len(info(samples, "a")) == 64
    assert left_out(samples) == {"per_container": 9_836, "too_long": 1, "in_all": 0}
    assert text.count(b"container_label_key") == 64


def test_labels_of_all_containers_are_bounded_together(tmp_path: Path) -> None:
    labels = {f"{number:0>200}": "v" * 200 for number in range(64)}
    containers = [replace(down("d"), spec=ContainerSpec(name=f"d{number}", labels=labels)) for number in range(100)]
    samples, text = scrape(tmp_path, *containers)
    assert left_out(samples)["in_all"] == 6_400 - (1 << 20) // 400
    assert text.count(b"container_label_0") == (1 << 20) // 400


def test_value_is_written_so_that_it_is_read_as_it_was(tmp_path: Path) -> None:
    value = 'a"b\\c\nd\u2028é{}'
    samples, _ = scrape(tmp_path, up("a", odd=value, **{"com.example/team": value}))
    assert info(samples, "a")["odd"] == value
    assert samples["container_memory_rss"][1][0]["container_label_com_example_team"] == value
