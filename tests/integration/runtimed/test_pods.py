"""What containers of an owner may ask for, on the real kernel and with both OCI runtimes."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from runtimed.host.facts import cgroup_trees, layout_of
from sampan.errors import ConflictError, InvalidArgumentError, StartError
from sampan.resource.container import ProcessUser
from sampan.resource.container_spec import (
    ContainerSpec,
    HugepageLimit,
    LogConfig,
    Namespaces,
    Process,
    Resources,
    Security,
)
from sampan.resource.exec import ExecSpec
from sampan.resource.streams import Accepted, Attached, Detached, ExecStart, LogQuery
from tests.integration.runtimed.pods_setup import Pods, write_users
from tests.integration.runtimed.runtimed_process import Runtimed, mounts_below, running
from tests.support.tools import eventually, need, remove_group, unmount

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runtimed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtimed]:
    directory = tmp_path_factory.mktemp("r")
    async with running(directory) as (process, snapshotter):
        write_users(directory)
        yield process
    assert mounts_below(directory) == []
    assert snapshotter.active == {}


@pytest_asyncio.fixture(loop_scope="module", params=["crun", "runc"])
async def pods(runtimed: Runtimed, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Pods]:
    need(request.param)
    pods = Pods(runtimed, request.param, tmp_path)
    yield pods
    await pods.clear()


@pytest.fixture
def namespaces(tmp_path: Path) -> Iterator[Path]:
    """Namespaces that are held by files, as a sandbox's are: net, ipc and uts."""
    directory = tmp_path / "ns"
    directory.mkdir()
    files = {kind: directory / kind for kind in ("net", "ipc", "uts")}
    for file in files.values():
        file.touch()
    held = [f"--{kind}={file}" for kind, file in files.items()]
    subprocess.run(["unshare", *held, "sh", "-c", "hostname pod-1; ip link set lo up"], check=True)
    yield directory
    for file in files.values():
        unmount(file)


def joining(directory: Path) -> Namespaces:
    return Namespaces(network=f"ns:{directory / 'net'}", ipc=f"ns:{directory / 'ipc'}", uts=f"ns:{directory / 'uts'}")


async def test_namespaces_are_joined_by_their_files(pods: Pods, namespaces: Path) -> None:
    expected = [f"{kind}:[{os.stat(namespaces / kind).st_ino}]" for kind in ("net", "ipc", "uts")]
    told = await pods.output(
        "sh",
        "-c",
        "for n in net ipc uts; do ls -l /proc/self/ns/$n; done; hostname; ls -A /etc",
        namespaces=joining(namespaces),
    )
    lines = told.splitlines()
    assert [line.rpartition(" ")[2] for line in lines[:3]] == expected
    assert lines[3] == "pod-1"
    assert lines[4:] == ["group", "passwd"]  # nothing of the engine's


async def test_a_container_knows_where_its_network_is_and_is_found_after_a_restart(
    pods: Pods, namespaces: Path, runtimed: Runtimed
) -> None:
    made = await pods.begin("sleep", "1000", namespaces=joining(namespaces))
    assert made.network.sandbox_path == str(namespaces / "net")
    await runtimed.restart()
    pods.__init__(runtimed, pods.runtime, pods.log.parent)  # type: ignore[misc]  # the channel is another one
    pods.made.append(made.id)
    found = await pods.containers.get(made.id)
    assert (found.state.pid, found.network.sandbox_path) == (made.state.pid, made.network.sandbox_path)


async def test_a_process_namespace_is_joined_by_a_file(pods: Pods) -> None:
    with subprocess.Popen(["unshare", "--fork", "--pid", "--kill-child", "sleep", "1000"]) as first:
        try:
            await asyncio.to_thread(eventually, lambda: b"sleep" in child_of(first.pid), "its first process is there")
            path = f"/proc/{first.pid}/ns/pid_for_children"
            modes = Namespaces(network="none", pid=f"ns:{path}")
            told = await pods.output("sh", "-c", "ls -l /proc/self/ns/pid; cat /proc/1/cmdline", namespaces=modes)
            assert f"pid:[{os.stat(path).st_ino}]" in told
            assert "sleep\x001000" in told
        finally:
            first.send_signal(signal.SIGKILL)


def child_of(pid: int) -> bytes:
    """Return the command line of a process's only child, empty before it has become that."""
    with suppress(OSError, ValueError):
        (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return Path(f"/proc/{child}/cmdline").read_bytes()
    return b""


@pytest.mark.parametrize("kind", ["network", "ipc", "uts", "pid"])
async def test_a_file_that_is_no_such_namespace_is_named(pods: Pods, kind: str, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    for path in (tmp_path / "plain", tmp_path / "missing", Path("/proc/self/ns/mnt")):
        modes: dict[str, Any] = {kind: f"ns:{path}"}
        made = await pods.create("true", namespaces=replace(Namespaces(network="none"), **modes))
        with pytest.raises(StartError, match=f"cannot join {kind} namespace {path}: "):
            await pods.containers.start(made)


async def test_nobody_without_an_owner_joins_by_a_file(pods: Pods) -> None:
    for modes in (Namespaces(network="ns:/proc/1/ns/net"), Namespaces(pid="ns:/proc/1/ns/pid")):
        with pytest.raises(InvalidArgumentError, match=r"invalid .* mode: ns:/proc/1/ns"):
            await pods.containers.create(ContainerSpec("xx", process=Process(cmd=("true",)), namespaces=modes))


async def test_output_is_in_the_file_in_kubelets_form_and_the_file_is_opened_anew(pods: Pods) -> None:
    script = "echo one; echo bad >&2; while [ ! -e /go ]; do sleep 0.05; done; echo two; sleep 1000"
    made = await pods.create("sh", "-c", script)
    await pods.containers.start(made)
    async with asyncio.timeout(60):
        while len(pods.log.read_text().splitlines()) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    first = {line.split(" ", 1)[1] for line in pods.log.read_text().splitlines()}
    assert first == {"stdout F one", "stderr F bad"}
    rotated = pods.log.rename(pods.log.with_suffix(".1"))
    await pods.containers.reopen_log(made)
    assert pods.log.exists()
    (Path((await pods.containers.get(made)).root_path) / "go").touch()
    async with asyncio.timeout(60):
        while "two" not in pods.log.read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert "two" not in rotated.read_text()
    async with aclosing(pods.containers.logs(made, LogQuery())) as batches:
        assert [entry.line async for batch in batches for entry in batch.entries] == [b"two\n"]
    assert (await pods.containers.get(made)).log_path == str(pods.log)
    await pods.containers.remove(made, force=True)
    assert pods.log.exists()  # it is whoever asked for it that removes it
    pods.made.remove(made)


async def test_a_log_that_cannot_be_is_refused(pods: Pods, tmp_path: Path) -> None:
    made = await pods.create("true", log=LogConfig("cri", {"path": str(tmp_path)}))
    with pytest.raises(StartError, match=f"log path {tmp_path} is a directory"):
        await pods.containers.start(made)
    with pytest.raises(ConflictError, match="is not running"):
        await pods.containers.reopen_log(made)
    for log in (LogConfig("cri"), LogConfig("cri", {"path": "0.log"}), LogConfig("cri", {"path": "/x", "tag": "y"})):
        with pytest.raises(InvalidArgumentError, match="has one option, path"):
            await pods.create("true", log=log)
    with pytest.raises(InvalidArgumentError, match="no log driver named 'cri'"):
        await pods.containers.create(
            ContainerSpec(process=Process(cmd=("true",)), log=LogConfig("cri", {"path": "/x"}))
        )


async def test_groups_of_the_image_are_left_out_where_they_are_not_wanted(pods: Pods) -> None:
    assert (await pods.output("id", "-G", user="me")).split() == ["1000", "10"]
    pods.log.unlink()
    assert (await pods.output("id", "-G", user="me", groups=("2000",))).split() == ["1000", "2000"]
    assert (await pods.containers.get(pods.made[-1])).state.user == ProcessUser(1000, 1000, (1000, 2000))


async def test_ambient_capabilities_are_kept_by_another_user(pods: Pods) -> None:
    told = await pods.output(
        "grep", "Cap", "/proc/self/status", user="1000", security=Security(cap_add_ambient=("NET_BIND_SERVICE",))
    )
    found = {name: int(value, 16) for name, value in (line.split(":") for line in told.splitlines())}
    assert found["CapEff"] == found["CapPrm"] == found["CapAmb"] == found["CapInh"] == 1 << 10


async def test_a_cgroup_parent_is_a_path_or_a_slice(pods: Pods) -> None:
    kube = f"kube{os.getpid()}"  # others may run the same test
    plain = await pods.begin(
        "sleep", "1000", resources=Resources(cgroup_parent=f"/{kube}-test/pod1", memory_bytes=4 << 20)
    )
    in_slice = await pods.begin("sleep", "1000", resources=Resources(cgroup_parent=f"{kube}-burstable-pod2.slice"))
    assert plain.cgroup_path == f"/{kube}-test/pod1/{plain.id}"
    above = f"/{kube}.slice/{kube}-burstable.slice/{kube}-burstable-pod2.slice"
    assert in_slice.cgroup_path == f"{above}/{in_slice.id}"
    for one in (plain, in_slice):
        told = Path(f"/proc/{one.state.pid}/cgroup").read_text()
        assert any(line.endswith(one.cgroup_path) for line in told.splitlines())
    await pods.clear()
    pods.made.clear()
    for tree in cgroup_trees():
        assert not (tree.path / plain.cgroup_path.lstrip("/")).exists()
        for left in (f"{kube}-test/pod1", f"{kube}-test", above[1:], above[1:].rpartition("/")[0], f"{kube}.slice"):
            if (tree.path / left).exists():  # they are whoever named them's to remove
                remove_group(tree.path / left)


async def test_limits_that_this_host_has_not_are_told_or_refused(pods: Pods) -> None:
    trees = cgroup_trees()
    made = await pods.containers.create(
        ContainerSpec(
            "huge", chain_id="busybox", owner="cri", process=Process(cmd=("true",)),
            namespaces=Namespaces(network="none"),
            resources=Resources(hugepage_limits=(HugepageLimit("2MB", 1 << 21),)),
        )
    )  # fmt: skip
    pods.made.append(made.id)
    here = any("hugetlb" in tree.controllers for tree in trees if tree.version == layout_of(trees).version)
    assert any("huge page limits" in warning for warning in made.warnings) is not here
    await pods.containers.start(made.id)
    if any(tree.version == 1 for tree in trees):
        with pytest.raises(InvalidArgumentError, match=r"memory.high cannot be set"):
            await pods.create("true", resources=Resources(unified={"memory.high": "max"}))
    for wrong in (Resources(unified={"../x": "1"}), Resources(hugepage_limits=(HugepageLimit("big", 1),))):
        with pytest.raises(InvalidArgumentError, match="invalid"):
            await pods.create("true", resources=wrong)


async def test_an_exec_is_killed_with_all_that_came_of_it(pods: Pods) -> None:
    made = await pods.begin("sleep", "1000")
    script = "sleep 71 & (sleep 72 &) ; sh -c 'trap \"\" TERM; sleep 73' & wait"
    exec_id = await pods.execs.create(made.id, ExecSpec(("sh", "-c", script), attach_stdout=True))

    async def nothing() -> AsyncIterator[bytes]:
        return
        yield b""

    async with aclosing(pods.execs.start(exec_id, ExecStart(), nothing())) as output:
        assert isinstance(await anext(output), Accepted)
        assert isinstance(await anext(output), Attached)
        async with asyncio.timeout(60):
            while not {"sleep 71", "sleep 72", "sleep 73"} <= await running_in(pods, made.id):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await pods.execs.kill(exec_id)
        assert await running_in(pods, made.id) == {"sleep 1000"}
        async for item in output:
            assert not isinstance(item, Accepted | Attached | Detached)
    assert (await pods.execs.get(exec_id)).exit_code == 137


async def running_in(pods: Pods, container_id: str) -> set[str]:
    """Return the command lines of a container's processes."""
    table = await pods.containers.top(container_id)
    return {row[table.titles.index("CMD")] for row in table.rows}


async def test_what_it_wrote_and_uses_is_sampled(pods: Pods) -> None:
    made = await pods.begin("sh", "-c", "dd if=/dev/zero of=/written bs=1k count=64; echo done; sleep 1000")
    async with asyncio.timeout(60):
        while "done" not in pods.log.read_text():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    (sample,) = await pods.containers.samples("cri", [made.id])
    assert sample.cpu_usage_ns > 0
    assert 0 < sample.working_set_bytes <= sample.memory_usage_bytes
    assert sample.pids >= 1
    assert sample.layer_read is not None


async def test_who_follows_a_log_misses_nothing_and_sees_nothing_twice_when_kubelet_rotates_it(pods: Pods) -> None:
    # It counts until it has been rotated as often as it is to be, however late somebody reads.
    made = await pods.create("sh", "-c", "n=0; until [ -e /enough ]; do n=$((n+1)); echo $n; sleep 0.05; done")
    await pods.containers.start(made)
    root = Path((await pods.containers.get(made)).root_path)
    seen: list[bytes] = []
    rotations = 0
    async with aclosing(pods.containers.logs(made, LogQuery(follow=True))) as batches:
        async for batch in batches:
            seen += [entry.line for entry in batch.entries]
            if len(seen) > 10 * (rotations + 1) and rotations < 3:
                rotations += 1
                pods.log.rename(pods.log.with_name(f"0.log.20260102-03040{rotations}"))
                await pods.containers.reopen_log(made)
            elif rotations == 3 and len(seen) > 40:
                (root / "enough").touch()
    assert len(seen) > 40
    assert seen == [b"%d\n" % (number + 1) for number in range(len(seen))]
