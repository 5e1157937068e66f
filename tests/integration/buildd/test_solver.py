"""Graphs run by a whole engine: real processes, real layers, a real cache."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildd.assembly import Assembled, Settings, assemble
from buildd.cache.model import Record
from buildd.llb.graph import Change, change_files
from buildd.llb.ops import (
    CacheMount,
    Copy,
    Edge,
    ExecOp,
    MakeFile,
    MergeOp,
    Metadata,
    Mount,
    MountType,
    NetMode,
    Node,
    Process,
    SecretMount,
    SourceOp,
)
from buildd.protocol import ImageQuery, Output, Pinned, ResolvedImage, StepContext, StepError, Tree
from buildd.session.protocol import SessionInfo
from buildd.solver.build import Asker
from buildd.source_metadata import AttestationChain, AttestationQuery, Checksum, ChecksumQuery, GitObjects
from sampan.build.request import PruneOptions
from sampan.client.services import Services
from sampan.oci.platform import Platform
from sampan.store.database import Store
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.fakes.buildd import FakeProgress
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.tools import eventually, files_with, long_time, sleeping
from tests.support.trees import busybox_tar

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with tempfile.TemporaryDirectory(prefix="bs", dir="/tmp") as directory:
        (tar := Path(directory) / "root.tar").write_bytes(busybox_tar())
        with run_engine() as made:
            docker = DockerClient(made.host, made.config)
            docker("import", str(tar), "base")
            yield made


class LocalImages:
    """Sources that are images of the engine's."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def pin(self, op: SourceOp, platform: Platform, context: StepContext) -> Pinned:
        return Pinned((await self._services.images.get(op.identifier.partition("://")[2])).id)

    async def fetch(self, op: SourceOp, pinned: Pinned, platform: Platform, context: StepContext) -> Output:
        return Tree((await self._services.images.get(pinned.key)).layers)

    async def resolve_config(self, query: ImageQuery, context: StepContext) -> ResolvedImage:
        raise NotImplementedError

    async def git_objects(self, op: SourceOp, pinned: Pinned, context: StepContext) -> GitObjects:
        raise NotImplementedError

    async def attestations(
        self, op: SourceOp, query: AttestationQuery, platform: Platform, context: StepContext
    ) -> AttestationChain:
        raise NotImplementedError

    async def checksum(self, op: SourceOp, pinned: Pinned, query: ChecksumQuery, context: StepContext) -> Checksum:
        raise NotImplementedError


class NoShelf:
    """Nothing that sources keep."""

    async def records(self) -> Sequence[Record]:
        return []

    async def remove(self, ids: Collection[str]) -> Collection[str]:
        return []


@dataclass
class Builder:
    """A builder on an engine."""

    parts: Assembled[LocalImages]
    services: Services
    progress: FakeProgress

    async def read(self, edge: Edge, path: str) -> bytes:
        """Build, and read a file of the result. ``progress`` is that of the last build."""
        self.progress = FakeProgress()
        async with self.parts.solver.open(Asker("build", self.progress, ["client"])) as build:
            return await self.parts.files.read_file(await build.solve(edge), path)

    async def snapshots(self) -> Sequence[str]:
        """Snapshots of the builder's that are there."""
        await self.parts.trees.close()
        return [each.key for each in await self.services.snapshots.list(['labels."sampan.build"'])]


@asynccontextmanager
async def builder(engine: Engine, client: FakeSession | None = None) -> AsyncIterator[Builder]:
    sessions = FakeSessions(client or FakeSession(SessionInfo("client")))
    for directory in (engine.layout.data("buildd"), engine.layout.run("buildd")):
        directory.mkdir(exist_ok=True)
    async with (
        Services.connect(engine.layout) as services,
        Store(engine.layout.data("buildd") / "tests.db", "buildd.schema") as store,
        assemble(
            services,
            engine.layout,
            store,
            sessions,
            lambda _files, _keeper: nullcontext((LocalImages(services), (NoShelf(),))),
            Settings(max_parallelism=4),
        ) as parts,
    ):
        yield Builder(parts, services, FakeProgress())


def base() -> Edge:
    return Node(SourceOp("docker-image://base"), metadata=Metadata("FROM base")).output()


def sh(on: Edge, script: str, *mounts: Mount, extra: Sequence[Edge] = (), output: int = 0) -> Edge:
    process = Process(("/bin/sh", "-c", script), ("PATH=/bin",))
    op = ExecOp(process, (Mount("/", input=0, output=0), *mounts), NetMode.NONE)
    return Node(op, (on, *extra), metadata=Metadata(f"RUN {script}")).output(output)


async def test_a_step_makes_a_layer_and_the_next_build_finds_it(engine: Engine) -> None:
    graph = sh(sh(base(), "echo one > /made"), "cat /made /made > /twice; echo said")
    async with builder(engine) as built:
        assert await built.read(graph, "/twice") == b"one\none\n"
        assert built.progress.logs == b"said\n"
        assert await built.read(graph, "/twice") == b"one\none\n"
        assert all(vertex.cached for vertex in built.progress.last.values())
        assert await built.snapshots() == []
    # And after a start.
    async with builder(engine) as built:
        assert await built.read(graph, "/twice") == b"one\none\n"
        assert all(vertex.cached for vertex in built.progress.last.values())


async def test_a_step_that_fails_names_itself_and_its_code(engine: Engine) -> None:
    async with builder(engine) as built:
        with pytest.raises(StepError) as caught:
            await built.read(sh(base(), "echo no >&2; exit 7"), "/")
        assert str(caught.value) == (
            'process "/bin/sh -c echo no >&2; exit 7" did not complete successfully: exit code: 7'
        )
        assert caught.value.exit_code == 7
        assert built.progress.logs == b"no\n"
        op = ExecOp(Process(("/bin/none",), ("PATH=/bin",)), (Mount("/", input=0, output=0),), NetMode.NONE)
        with pytest.raises(StepError, match=r'^process "/bin/none" did not .*: exit code: 1$') as caught:
            await built.read(Node(op, (base(),)).output(), "/")
        assert caught.value.exit_code == 1
        assert b'exec: "/bin/none": stat /bin/none: no such file or directory\n' in built.progress.logs
        assert await built.snapshots() == []


async def test_stages_run_at_the_same_time_and_share_a_cache_mount(engine: Engine) -> None:
    shared = Mount("/c", MountType.CACHE, cache=CacheMount("../../meet"))

    def stage(mine: str, other: str) -> Edge:
        # Each can end only when the other one has begun.
        script = f"touch /c/{mine}; while [ ! -e /c/{other} ]; do usleep 10000; done; echo {mine} > /{mine}"
        return sh(base(), script, shared)

    copy = Change(Copy("/right", "/"), stage("right", "left"))
    graph = change_files(stage("left", "right"), [copy], Metadata("COPY --from=right"))
    async with builder(engine) as built:
        assert await built.read(graph, "/right") == b"right\n"
        (mount,) = await built.parts.cache.usage(["type==exec.cachemount"])
        assert mount.mutable
        assert not mount.in_use
        assert await built.read(sh(base(), "ls /c > /seen", shared), "/seen") == b"left\nright\n"
    inside = engine.layout.data("buildd") / "cache-mounts"
    assert [entry.name for entry in inside.iterdir()] == [mount.id]


async def test_a_secret_is_seen_by_its_step_alone(engine: Engine) -> None:
    client = FakeSession(SessionInfo("client"), secrets={"token": b"hush-hush"})
    secret = Mount("/run/secrets/token", MountType.SECRET, secret=SecretMount("token", mode=0o400))
    scratch = Mount("/scratch", MountType.TMPFS)
    script = "stat -c %a /run/secrets/token > /mode; wc -c < /run/secrets/token > /length; touch /scratch/x"
    graph = sh(base(), script, secret, scratch)
    async with builder(engine, client) as built:
        assert await built.read(graph, "/mode") == b"400\n"
        assert await built.read(graph, "/length") == b"9\n"
        listed = await built.read(sh(graph, "find /run /scratch -type f > /listed; true"), "/listed")
        assert listed == b""
    assert files_with(b"hush-hush", engine.layout.data_root) == []


async def test_inputs_are_mounted_read_and_written(engine: Engine) -> None:
    other = sh(base(), "mkdir -p /src; echo text > /src/file")
    read_only = Mount("/in", input=1, selector="/src", read_only=True)
    script = "cat /in/file > /copy; touch /in/new 2>/dev/null || echo read-only >> /copy"
    thrown = Mount("/in", input=1, selector="/src")
    kept = Mount("/out", input=1, selector="/src", output=1)
    async with builder(engine) as built:
        assert await built.read(sh(base(), script, read_only, extra=[other]), "/copy") == b"text\nread-only\n"
        changing = sh(base(), "echo more >> /in/file; cat /in/file > /copy", thrown, extra=[other])
        assert await built.read(changing, "/copy") == b"text\nmore\n"
        assert await built.read(other, "/src/file") == b"text\n"
        output = sh(base(), "echo more >> /out/file", kept, extra=[other], output=1)
        assert await built.read(output, "/src/file") == b"text\nmore\n"
        assert await built.snapshots() == []


async def test_linked_copies_and_merges_stack(engine: Engine) -> None:
    alone = change_files(None, [Change(MakeFile("/linked", 0o600, b"linked"))], Metadata("COPY --link"))
    merged = Node(MergeOp((0, 1)), (sh(base(), "echo x > /stage"), alone), metadata=Metadata("LINK")).output()
    async with builder(engine) as built:
        assert await built.read(sh(merged, "cat /stage /linked > /both"), "/both") == b"x\nlinked"


async def test_a_cancelled_build_leaves_no_process_and_no_snapshot(engine: Engine) -> None:
    seconds = long_time()
    async with builder(engine) as built:
        progress = FakeProgress()
        async with built.parts.solver.open(Asker("build", progress)) as build:
            solved = asyncio.create_task(build.solve(sh(base(), f"echo begun; exec sleep {seconds}")))
            await progress.said.wait()
            solved.cancel()
            await asyncio.wait([solved])
        # runtimed kills it as soon as it notices that the call is gone; nobody waits for that.
        await asyncio.to_thread(eventually, lambda: not sleeping(seconds), "the process has ended")
        assert await built.snapshots() == []


async def test_what_a_killed_builder_left_is_gone_after_a_start(engine: Engine) -> None:
    async with Services.connect(engine.layout) as services:
        image = await services.images.get("base")
        parent = await services.layers.stack([layer.diff_id for layer in image.layers])
        await services.snapshots.prepare("build-left", parent, {"sampan.build": "step"})
    left = engine.layout.data("buildd") / "cache-mounts" / "new-left"
    left.mkdir(parents=True, exist_ok=True)
    async with builder(engine) as built:
        assert await built.snapshots() == []
        assert not left.exists()


async def test_a_prune_gives_back_layers_and_later_builds_make_them_again(engine: Engine) -> None:
    graph = sh(base(), "head -c 300000 /dev/zero > /big")
    async with builder(engine) as built:
        await built.read(graph, "/big")
        (record,) = await built.parts.cache.usage(['description~="^RUN head"'])
        assert record.size_bytes >= 300_000
        assert not record.shared
        (source,) = await built.parts.cache.usage(['description=="FROM base"'])
        assert source.shared
        assert record.parents == (source.id,)
        gone = [each.id async for each in built.parts.cache.prune(PruneOptions(all=True))]
        assert set(gone) >= {record.id, source.id}
        assert await built.parts.cache.usage() == []
        assert [each.id for each in await built.services.leases.list("buildd")] == []
        objects = [one async for some in built.services.layer_disk.objects() for one in some if one.kind == "layer"]
        assert len(objects) == 1  # the image's
        assert len(await built.read(graph, "/big")) == 300_000
        assert not built.progress.last[graph.node.metadata.name].cached
