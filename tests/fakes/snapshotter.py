"""A snapshotter that keeps snapshots in memory and shows them as overlays of plain directories.

It behaves as far as runtimed can tell: active snapshots are writable and keep what is written, parents are shared,
removing is final. Committed snapshots are directories that a test names.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.snapshots.v1 import snapshots_pb2 as pb
from sampan.api.containerd.snapshots.v1 import snapshots_pb2_grpc
from sampan.api.containerd.types.types_pb2 import Mount
from sampan.errors import AlreadyExistsError, NotFoundError, SampanError, UnimplementedError
from sampan.wire.status import REASON_KEY, wire_for

Context = grpc.aio.ServicerContext[Any, Any]


class FakeSnapshotter(snapshots_pb2_grpc.SnapshotsServicer):
    """Serves ``parents`` (name -> directory) and keeps active snapshots below ``root``."""

    def __init__(self, root: Path, parents: dict[str, Path]) -> None:
        self.root = root
        self.parents = parents
        self.active: dict[str, pb.Info] = {}
        self.removing = asyncio.Event()  # somebody has asked for a removal that is held
        self._removals = asyncio.Event()
        self._removals.set()

    @contextmanager
    def holding_removals(self) -> Iterator[None]:
        """Let whoever asks for a removal wait within."""
        self.removing.clear()
        self._removals.clear()
        try:
            yield
        finally:
            self._removals.set()

    async def Prepare(self, request: pb.PrepareSnapshotRequest, context: Context) -> pb.PrepareSnapshotResponse:
        if request.key in self.active:
            await _abort(context, AlreadyExistsError(f"snapshot {request.key} already exists"))
        if request.parent and request.parent not in self.parents:
            await _abort(context, NotFoundError(f"snapshot {request.parent} does not exist"))
        for name in ("upper", "work", "empty"):
            (self.root / request.key / name).mkdir(parents=True)
        (self.root / request.key / "upper").chmod(0o755)
        self.active[request.key] = pb.Info(
            name=request.key, parent=request.parent, kind=pb.ACTIVE, labels=request.labels
        )
        return pb.PrepareSnapshotResponse(mounts=[self._mount(request.key)])

    async def Mounts(self, request: pb.MountsRequest, context: Context) -> pb.MountsResponse:
        if request.key not in self.active:
            await _abort(context, NotFoundError(f"snapshot {request.key} does not exist"))
        return pb.MountsResponse(mounts=[self._mount(request.key)])

    async def Remove(self, request: pb.RemoveSnapshotRequest, context: Context) -> Empty:
        if not self._removals.is_set():
            self.removing.set()
            await self._removals.wait()
        if self.active.pop(request.key, None) is None:
            await _abort(context, NotFoundError(f"snapshot {request.key} does not exist"))
        await asyncio.to_thread(shutil.rmtree, self.root / request.key)
        return Empty()

    async def Usage(self, request: pb.UsageRequest, context: Context) -> pb.UsageResponse:
        if request.key not in self.active:
            await _abort(context, NotFoundError(f"snapshot {request.key} does not exist"))
        files = [path for path in (self.root / request.key / "upper").rglob("*") if path.is_file()]
        return pb.UsageResponse(size=sum(path.lstat().st_size for path in files), inodes=len(files))

    async def List(self, request: pb.ListSnapshotsRequest, context: Context) -> AsyncIterator[pb.ListSnapshotsResponse]:
        yield pb.ListSnapshotsResponse(info=list(self.active.values()))

    async def View(self, request: pb.ViewSnapshotRequest, context: Context) -> pb.ViewSnapshotResponse:
        if request.key in self.active:
            await _abort(context, AlreadyExistsError(f"snapshot {request.key} already exists"))
        if request.parent not in self.parents:
            await _abort(context, NotFoundError(f"snapshot {request.parent} does not exist"))
        (self.root / request.key).mkdir(parents=True)
        self.active[request.key] = pb.Info(name=request.key, parent=request.parent, kind=pb.VIEW, labels=request.labels)
        return pb.ViewSnapshotResponse(mounts=[self._mount(request.key)])

    async def Commit(self, request: pb.CommitSnapshotRequest, context: Context) -> Empty:
        await _abort(context, UnimplementedError("runtimed commits nothing"))
        return Empty()

    async def Stat(self, request: pb.StatSnapshotRequest, context: Context) -> pb.StatSnapshotResponse:
        return pb.StatSnapshotResponse(info=self.active.get(request.key))

    async def Update(self, request: pb.UpdateSnapshotRequest, context: Context) -> pb.UpdateSnapshotResponse:
        await _abort(context, UnimplementedError("runtimed updates nothing"))
        return pb.UpdateSnapshotResponse()

    async def Cleanup(self, request: pb.CleanupRequest, context: Context) -> Empty:
        return Empty()

    def _mount(self, key: str) -> Mount:
        place = self.root / key
        lower = self.parents.get(self.active[key].parent, place / "empty")
        if self.active[key].kind == pb.VIEW:
            return Mount(type="bind", source=str(lower), options=["rbind", "ro"])
        options = [f"lowerdir={lower}", f"upperdir={place / 'upper'}", f"workdir={place / 'work'}"]
        return Mount(type="overlay", source="overlay", options=options)


async def _abort(context: Context, error: SampanError) -> None:
    wire = wire_for(error)
    await context.abort(wire.code, str(error), ((REASON_KEY, wire.reason),))
