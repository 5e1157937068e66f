"""What exporters of builds stand on: stores of content and images, trees, files, a client's session, a step."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from buildd.files.converting import convert
from buildd.llb.ops import FileOp, MakeFile
from buildd.protocol import Converted, Form, Output, Remains, StepContext, Tree
from sampan.errors import AlreadyExistsError, ConflictError, NotFoundError, ResourceExhaustedError
from sampan.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from sampan.oci.digest import Digest
from sampan.resource import image as images
from sampan.resource.content import Action, Blob, WriteReply, WriteStep


def layer(text: str) -> images.Layer:
    """Return a layer that is different for each text."""
    blob = text.encode()
    return images.Layer(Descriptor(OCI_LAYER_GZIP, Digest.of(blob), len(blob)), Digest.of(blob + b"tar"))


@dataclass
class FakeStore:
    """Satisfies ``buildd.content.Content``, and keeps what ``tests/contract/content.py`` says of writes."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    kept_by: dict[str, str] = field(default_factory=dict)
    ingests: dict[str, bytes] = field(default_factory=dict)  # writes that somebody may go on with
    full: bool = False

    def add(self, *texts: str) -> Tree:
        """Put the layers of a tree."""
        for text in texts:
            self.blobs[Digest.of(text.encode())] = text.encode()
        return Tree(tuple(map(layer, texts)))

    @asynccontextmanager
    async def write(self, *, lease: str = "", resumable: bool = True) -> AsyncIterator["FakeConversation"]:
        conversation = FakeConversation(self, lease)
        try:
            yield conversation
        finally:
            if not resumable:
                self.ingests.pop(conversation.ref, None)

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> AsyncGenerator[bytes, None]:
        if digest not in self.blobs:
            raise NotFoundError(f"content {digest}: not found")
        assert (offset, size) == (0, 0)
        yield self.blobs[digest]

    async def info(self, digest: str) -> Blob:
        if digest not in self.blobs:
            raise NotFoundError(f"content {digest}: not found")
        return Blob(Digest(digest), len(self.blobs[digest]), 0, 0)


@dataclass
class FakeConversation:
    """One write."""

    store: FakeStore
    lease: str
    ref: str = ""

    async def ask(self, step: WriteStep) -> WriteReply:
        store, self.ref = self.store, step.ref
        assert step.expected is not None
        if step.expected in store.blobs:
            store.ingests.pop(step.ref, None)
            store.kept_by[step.expected] = self.lease
            raise AlreadyExistsError(f"content {step.expected}: already exists")
        data = store.ingests.setdefault(step.ref, b"")
        if step.action is not Action.STAT:
            assert step.offset == len(data)
            store.ingests[step.ref] = data = data + step.data
        if step.action is Action.COMMIT:
            if store.full:
                raise ResourceExhaustedError("the disk is full")
            if (Digest.of(data), len(data)) != (step.expected, step.total):
                raise ConflictError(f"unexpected commit digest {Digest.of(data)}, expected {step.expected}")
            store.kept_by[step.expected] = self.lease
            store.blobs[step.expected] = store.ingests.pop(step.ref)
        return WriteReply(step.action, len(data), step.total, Digest.of(data), 0, 0)

    async def hang_up(self) -> None:
        pass


@dataclass
class ExportedFiles:
    """The part of ``protocol.FileWorker`` that exporters use: trees have layers, and a file for each."""

    flattened: Tree = field(default_factory=Tree)
    converted: list[Form] = field(default_factory=list)
    place: Path | None = None
    made: list[MakeFile] = field(default_factory=list)

    async def convert(self, source: Path, target: Path, form: Form) -> Converted:
        self.converted.append(form)
        return convert(source, target, form)

    async def file_digests(self, output: Output) -> Mapping[str, Digest]:
        return {"a/file": Digest.of(b"file")}

    async def change(self, op: FileOp, inputs: Sequence[Output], context: StepContext) -> Sequence[Tree]:
        self.made += [each.action for each in op.actions if isinstance(each.action, MakeFile)]
        (tree,) = inputs
        assert isinstance(tree, Tree)
        return [tree]

    async def flatten(self, output: Output) -> Tree:
        return output if isinstance(output, Tree) else self.flattened

    async def tar(self, outputs: Mapping[str, Output]) -> AsyncGenerator[bytes, None]:
        for name in outputs:
            yield f"tar of {name or 'all'};".encode()

    @asynccontextmanager
    async def mounted(self, outputs: Mapping[str, Output]) -> AsyncIterator[Path]:
        assert self.place is not None
        for name in outputs:
            (self.place / name).mkdir(exist_ok=True)
        yield self.place


@dataclass
class FakeStep:
    """Satisfies ``protocol.StepContext``."""

    session_ids: tuple[str, ...] = ("s",)
    said: list[str] = field(default_factory=list)
    vertex: Digest = field(default_factory=lambda: Digest.of(b"exporting"))

    def sessions(self) -> Sequence[str]:
        return self.session_ids

    def log(self, data: bytes, stream: int = 1) -> None:
        raise AssertionError(f"an exporter says nothing on stream {stream}: {data!r}")

    def status(self, id: str, *, current: int = 0, total: int = 0, done: bool = False) -> None:
        assert current <= total or not total
        if done:
            self.said.append(id)

    async def hold(self, held: AbstractAsyncContextManager[Output]) -> Output:
        raise AssertionError(f"an exporter holds nothing: {held}")

    async def leave_behind(self, remains: Sequence[Remains], let_go: Callable[[], Awaitable[None]]) -> None:
        raise AssertionError(f"an exporter leaves nothing: {remains}")
