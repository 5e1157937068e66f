"""Cache keys: what a step does, and what it reads. Equal keys, equal results.

A key is made of the operation and, for each input, of what the step reads of it. What is copied or mounted read-only
from a path is read there and nowhere else: such an input counts by a checksum of those files, so a change beside them,
or of times, leads to the same key. Any other input counts by its layers' diff IDs. A step that ran again to the same
effect has the same diff IDs, and what follows it is still a hit.

Checksums of a tree need its files. So there is a second, *quick* key, of diff IDs alone, which is remembered with the
key that it once led to.
"""

from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Final

from buildd.llb.digests import digest_of
from buildd.llb.ops import Copy, DiffOp, ExecOp, FileOp, MergeOp, Mount, MountType, Op, Owner, SourceOp
from buildd.protocol import Directory, FileWorker, Output, Pinned, Selection, Tree
from buildd.solver.flights import AT_ONCE
from sampan.cancellation import together
from sampan.errors import NotFoundError, SampanError, ServiceGoneError, reworded
from sampan.oci.digest import Digest

_EVERYTHING: Final = Selection()
# What builds are told before a step's own words; its vertex says those alone.
COMPUTING: Final = "failed to compute cache key: "
LOADING: Final = "failed to load cache key: "

_NOTHING: Final = Digest.of(b"")
_WILDCARDS: Final = "*?["


@dataclass(frozen=True, slots=True)
class Reads:
    """What a step reads of one input: all of it, or these files."""

    whole: bool = False
    selections: tuple[tuple[Selection, bool], ...] = ()  # and whether there may be none of them

    def and_whole(self) -> "Reads":
        """Return that it reads everything besides."""
        return Reads(True, self.selections)

    def and_selected(self, selection: Selection, *, may_miss: bool = False) -> "Reads":
        """Return that it reads some more files."""
        return Reads(self.whole, (*self.selections, (selection, may_miss)))


def reads_of(op: Op, count: int) -> tuple[Reads, ...]:
    """Return what an operation reads of each of its ``count`` inputs."""
    reads = [Reads()] * count
    match op:
        case ExecOp():
            for mount in op.mounts:
                if 0 <= mount.input < count:
                    reads[mount.input] = _reads_of_mount(mount, reads[mount.input])
        case FileOp():
            for action in op.actions:
                _note_action(action.action, action.input, action.secondary_input, reads)
        case MergeOp():
            reads = [Reads(whole=True)] * count
        case DiffOp():
            reads = [Reads(whole=True)] * count
        case SourceOp():
            pass
    return tuple(reads)


def _reads_of_mount(mount: Mount, before: Reads) -> Reads:
    if mount.type is MountType.BIND and mount.read_only and mount.selector not in ("", "/") and mount.output < 0:
        return before.and_selected(Selection(mount.selector, follow_symlink=True))
    return before.and_whole()


def _note_action(action: object, base: int, source: int, reads: list[Reads]) -> None:
    if 0 <= base < len(reads):
        reads[base] = reads[base].and_whole()
    owner: Owner | None = getattr(action, "owner", None)
    for name in (owner.user, owner.group) if owner is not None else ():
        # A name is looked up in the files of that input.
        if name is not None and name.number is None and 0 <= name.input < len(reads):
            reads[name.input] = reads[name.input].and_whole()
    if not isinstance(action, Copy) or not 0 <= source < len(reads):
        return
    selection = Selection(
        action.src,
        follow_symlink=action.follow_symlink,
        wildcard=action.allow_wildcard,
        include_patterns=action.include_patterns,
        exclude_patterns=action.exclude_patterns,
    )
    wild = action.allow_wildcard and any(sign in action.src for sign in _WILDCARDS)
    may_miss = wild and action.allow_empty_wildcard
    reads[source] = reads[source].and_selected(selection, may_miss=may_miss)


def source_key(op: SourceOp, pinned: Pinned) -> Digest:
    """Return the key of what a source is at the moment; only for one whose pin has a key."""
    return digest_of("source", op.identifier.partition("://")[0], pinned.key)


def tree_digest(tree: Tree) -> Digest:
    """Return what tells a tree's files from others."""
    return digest_of("tree", tuple(layer.diff_id for layer in tree.layers))


def quick_key(does: Digest, inputs: Sequence[Output]) -> Digest | None:
    """Return the key by diff IDs, or None if an input has none; ``does`` is the operation's digest."""
    parts = [tree_digest(each) for each in inputs if isinstance(each, Tree)]
    if len(parts) < len(inputs):
        return None
    return digest_of("quick", does, tuple(parts))


def needs_files(op: Op, inputs: Sequence[Output]) -> bool:
    """Say whether the key depends on more than diff IDs."""
    reads = reads_of(op, len(inputs))
    return any(isinstance(output, Directory) or not read.whole for output, read in zip(inputs, reads, strict=True))


async def content_key(op: Op, does: Digest, inputs: Sequence[Output], files: FileWorker) -> Digest:
    """Return the key; ``does`` is the operation's digest.

    Raises:
        NotFoundError: an input does not have what the step reads, in BuildKit's words.
    """
    reads = reads_of(op, len(inputs))
    if all(isinstance(output, Tree) and read.whole for output, read in zip(inputs, reads, strict=True)):
        parts = [tree_digest(each) for each in inputs if isinstance(each, Tree)]
    else:
        parts = await together(
            (_part(output, read, files) for output, read in zip(inputs, reads, strict=True)), AT_ONCE
        )
    return digest_of("step", does, tuple(parts))


async def pinned(op: SourceOp, pinning: Awaitable[Pinned]) -> Pinned:
    """Return what ``pinning`` returns; what goes wrong with it is told as what keeps a source's key from being known.

    Of a client's directory nothing is asked for a key.
    """
    try:
        return await pinning
    except ServiceGoneError:
        raise
    except SampanError as error:
        if op.identifier.startswith("local://"):
            raise
        raise reworded(error, f"{LOADING}{error}") from error


async def _part(output: Output, reads: Reads, files: FileWorker) -> Digest:
    if reads.whole:
        return tree_digest(output) if isinstance(output, Tree) else await files.checksum(output, _EVERYTHING)
    checks: list[Coroutine[None, None, Digest]] = [
        _checksum(output, selection, may_miss, files) for selection, may_miss in reads.selections
    ]
    return digest_of("files", tuple(await together(checks, AT_ONCE)))


async def _checksum(output: Output, selection: Selection, may_miss: bool, files: FileWorker) -> Digest:
    try:
        return await files.checksum(output, selection)
    except NotFoundError as error:
        if may_miss:
            return _NOTHING
        ref = "directory" if isinstance(output, Directory) else tree_digest(output).short
        words = f"{COMPUTING}failed to calculate checksum of ref {ref}: {error}"
        raise NotFoundError(words) from error
