"""The processes that unpack layers: one for each, forked from one that comes and goes."""

import asyncio
import gc
import gzip
import os
import subprocess
import sys
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import pytest

from sampan.errors import UnavailableError
from sampan.oci.descriptor import OCI_LAYER, Descriptor
from sampan.oci.digest import Digest
from snapshotter.layers.formats import LayerFormat
from snapshotter.layers.limits import LayerLimits
from snapshotter.workers.job import Answer, ApplyJob, WorkerDiedError
from snapshotter.workers.pool import Workers
from tests.fakes.content import FakeContent
from tests.support.snapshotter import local, shown, tar, workers
from tests.support.tools import eventually, need_root, open_files

pytestmark = pytest.mark.usefixtures("root")


@pytest.fixture
def root() -> None:
    need_root()


@pytest.fixture
async def pool() -> AsyncIterator[Workers]:
    pool = Workers()
    yield pool
    await pool.close()
    assert _fork_servers() == []


class Job:
    """A layer to unpack, whose blob comes in two halves."""

    def __init__(self, directory: Path, name: str) -> None:
        self.blob = gzip.compress(tar(a=os.urandom(3 << 20), **{f"file-{name}": name}), 1)
        self.half = asyncio.Event()  # the first half is sent
        self.go_on = asyncio.Event()
        self.target = directory / name
        self.job = ApplyJob(
            Digest.of(self.blob),
            len(self.blob),
            "",
            LayerFormat.EROFS.value,
            str(self.target),
            str(directory),
            LayerLimits().of(len(self.blob)),
        )

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        middle = len(self.blob) // 2
        yield self.blob[:middle]
        self.half.set()
        await self.go_on.wait()
        yield self.blob[middle:]

    def start(self, pool: Workers) -> asyncio.Task[Answer]:
        return asyncio.create_task(pool.apply(self.job, self.pieces(), lambda _: None))


async def test_workers_are_forked_from_one_fork_server_and_know_only_their_own_files(
    pool: Workers, tmp_path: Path
) -> None:
    jobs = [Job(tmp_path, name) for name in ("one", "two")]
    tasks = [job.start(pool) for job in jobs]
    for job in jobs:
        await job.half.wait()
    assert len(_fork_servers()) == 1
    found = workers()
    assert len(found) == 2
    for pid in found:
        files = open_files(pid)
        images = [file for file in files if file.startswith(str(tmp_path))]
        assert len(images) == 1
        assert len(files) == 4  # that, and the three of every process
        assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "500\n"
    assert Path(f"/proc/{_fork_servers()[0]}/oom_score_adj").read_text() != "500\n"
    for job in jobs:
        job.go_on.set()
    assert [answer.inodes for answer in await asyncio.gather(*tasks)] == [3, 3]


async def test_a_cancelled_job_ends_its_worker_alone(pool: Workers, tmp_path: Path) -> None:
    kept, cancelled = Job(tmp_path, "kept"), Job(tmp_path, "cancelled")
    tasks = [job.start(pool) for job in (kept, cancelled)]
    await asyncio.gather(kept.half.wait(), cancelled.half.wait())
    tasks[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[1]
    await asyncio.to_thread(eventually, lambda: len(workers()) == 1, "the other one goes on alone")
    kept.go_on.set()
    assert (await tasks[0]).inodes == 3


async def test_a_job_that_is_cancelled_at_any_step_leaves_no_transport_and_no_worker(
    pool: Workers, tmp_path: Path
) -> None:
    first = Job(tmp_path, "first")
    first.go_on.set()
    await first.start(pool)  # the fork server runs
    gc.collect()  # what others have left is not ours
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for steps in range(12):
            task = Job(tmp_path, f"cancelled-{steps}").start(pool)
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.to_thread(eventually, lambda: workers() == [], "no worker is left")
        gc.collect()
    assert [str(one.message) for one in told] == []


async def test_a_fork_server_that_is_killed_fails_its_layers_and_is_replaced(pool: Workers, tmp_path: Path) -> None:
    job = Job(tmp_path, "one")
    task = job.start(pool)
    await job.half.wait()
    os.kill(_fork_servers()[0], 9)
    job.go_on.set()
    with pytest.raises(WorkerDiedError):
        await task
    await asyncio.to_thread(eventually, lambda: workers() == [], "no worker is left")
    again = Job(tmp_path, "again")
    again.go_on.set()
    assert (await again.start(pool)).inodes == 3


@pytest.mark.parametrize("victims", [workers, lambda: _fork_servers()], ids=["worker", "fork server"])
async def test_a_layer_whose_worker_is_killed_is_unpacked_once_more(
    tmp_path: Path, victims: Callable[[], list[int]]
) -> None:
    layer = tar(a=os.urandom(3 << 20), b="b")
    kills: list[int] = []

    class Content(FakeContent):
        async def before_piece(self, offset: int) -> None:
            if offset == 1 << 20 and len(kills) < limit:
                kills.extend(victims())
                os.kill(kills[-1], 9)

    limit = 1
    content = Content()
    descriptor = Descriptor(OCI_LAYER, content.add(layer), len(layer))
    async with local(tmp_path / "root", "overlayfs", content) as parts:
        steps = [step async for step in parts.layers.apply(descriptor, Digest.of(layer))]
        assert steps[-1].done
        assert content.reads == 2
        with shown(await parts.snapshots.prepare("web", await parts.layers.stack([Digest.of(layer)]), {})) as root:
            assert (root / "a").stat().st_size == 3 << 20
        other = tar(c=os.urandom(3 << 20))
        limit = 3  # and what is killed each time is given up
        descriptor = Descriptor(OCI_LAYER, content.add(other), len(other))
        with pytest.raises(UnavailableError, match="the process working on it"):
            _ = [step async for step in parts.layers.apply(descriptor, Digest.of(other))]
        await parts.snapshots.cleanup()
        assert list((tmp_path / "root/tmp").iterdir()) == list((tmp_path / "root/trash").iterdir()) == []


async def test_the_fork_server_goes_when_nothing_is_left_to_do(tmp_path: Path) -> None:
    pool = Workers(idle_s=0)
    job = Job(tmp_path, "one")
    job.go_on.set()
    assert (await job.start(pool)).inodes == 3
    await asyncio.to_thread(eventually, lambda: not _fork_servers(), "the fork server ends")
    await pool.close()


async def test_workers_do_not_outlive_the_service(tmp_path: Path) -> None:
    job = Job(tmp_path, "one")
    (tmp_path / "blob").write_bytes(job.blob)
    script = (
        "import asyncio, os, sys\n"
        "from snapshotter.workers.job import ApplyJob\n"
        "from snapshotter.workers.pool import Workers\n"
        "async def blob():\n"
        "    yield open(sys.argv[2], 'rb').read(1 << 20)\n"
        "    print('half', flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(Workers().apply(ApplyJob.from_json(sys.argv[1]), blob(), lambda _: None))\n"
    )
    command = [sys.executable, "-c", script, job.job.to_json(), str(tmp_path / "blob")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as service:
        assert service.stdout is not None
        assert await asyncio.to_thread(service.stdout.readline) == b"half\n"
        (server,) = _fork_servers(service.pid)
        (worker,) = workers(service.pid)
        service.kill()
    eventually(lambda: not any(map(_is_alive, (server, worker))), "both have ended")


def _fork_servers(parent: int | None = None) -> list[int]:
    listed = subprocess.run(
        ["pgrep", "-P", str(parent or os.getpid()), "-f", "snapshotter.workers.fork_server"],
        capture_output=True,
        text=True,
    )
    return [int(pid) for pid in listed.stdout.split()]


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
