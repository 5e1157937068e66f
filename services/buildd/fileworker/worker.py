"""The process that does one job with files, forked from the fork server: told and answering on its socket.

What it mounts is in a mount namespace of its own, so it is gone when the process is, however that ends.
"""

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final

from buildd.files.checksum import checksum, checksum_of_directory, digest_files
from buildd.files.converting import convert
from buildd.files.copying import copy
from buildd.files.making import make_directory, make_file, make_link, remove_path
from buildd.files.modes import Ids, find_owner
from buildd.files.reading import read_directory, read_file, stat_path, write_tar
from buildd.files.root import Root
from buildd.files.target import translated
from buildd.fileworker import jobs
from buildd.fileworker.jobs import LENGTH, Done, Failed, Place
from buildd.llb.ops import NO_INPUT, Copy, FileAction, MakeDirectory, MakeFile, MakeSymlink, Remove
from sampan.errors import NoSpaceError, ResourceExhaustedError, SampanError
from sampan.sys import mounts
from sampan.sys.files import is_full
from sampan.sys.libc import LIBC, check
from sampan.sys.processes import die_with_parent, set_name

_NAME: Final = "file worker"  # what the kernel calls it when it runs out of memory
_CLONE_NEWNS: Final = 0x00020000
_SAFE_OPTIONS: Final = ("nosuid", "nodev", "noexec")
_SAFE: Final = mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC
_BASE: Final = -2  # what a change is made to, besides the numbers that actions have
_STREAM: Final = 0  # the socket, as stdin and stdout
_PIECE: Final = 1 << 20


def main(scratch: str, parent: int) -> int:
    """Do a job; return 0, as an answer was written. ``parent`` is the process that this one was forked from."""
    os.umask(0)  # modes are what they are said to be
    die_with_parent(parent)
    set_name(_NAME)
    # Rather one step than the builder.
    Path("/proc/self/oom_score_adj").write_text("500")
    answer = run(jobs.unpack_job(_receive()), Path(scratch))
    with suppress(BrokenPipeError, ConnectionResetError):  # nobody waits for it any more
        _send(LENGTH.pack(0) + jobs.pack(answer))
    return 0


def refuse(error: OSError, answers: int) -> None:
    """Answer for a worker that there is no room for."""
    failed = Failed(ResourceExhaustedError.__name__, f"no process can be started to work on files: {error.strerror}")
    os.write(answers, LENGTH.pack(0) + jobs.pack(failed))


def run(job: jobs.Job, scratch: Path) -> Done | Failed:
    """Do a job; expected errors are returned."""
    try:
        return _run(job, scratch)
    except SampanError as error:
        return Failed(type(error).__name__, str(error))
    except OSError as error:
        kind = NoSpaceError if is_full(error) else SampanError
        return Failed(kind.__name__, f"cannot work on files: {error.strerror}: {error.filename or ''}".rstrip(": "))
    except MemoryError:
        return Failed(ResourceExhaustedError.__name__, "out of memory while working on files")


def _run(job: jobs.Job, scratch: Path) -> Done:
    if isinstance(job, jobs.Convert):
        return Done(convert(job.source, job.target, job.form))
    places = _places(job)
    private = isinstance(job, jobs.Hold) or not all(place.path for place in places.values())
    with _shown(places, scratch) if private else nullcontext(_paths(places)) as paths, ExitStack() as stack:

        def root(index: int) -> Root:
            return stack.enter_context(Root.open(paths[index]))

        if isinstance(job, jobs.Change):
            return _change(job, root)
        if isinstance(job, jobs.Checksum):
            if job.place.path:
                return Done(checksum_of_directory(Path(job.place.path), job.selection))
            return Done(checksum(root(0), job.selection))
        if isinstance(job, jobs.FileDigests):
            return Done(digest_files(root(0)))
        if isinstance(job, jobs.ReadFile | jobs.ReadDirectory | jobs.Stat):
            return Done(look(paths[0], job))
        if isinstance(job, jobs.Tar):
            _tar([(name, root(index)) for index, (name, _) in enumerate(job.outputs)])
            return Done(None)
        return _hold(job, paths, scratch)


def look(path: str, job: jobs.Look) -> object:
    """Do what takes a moment, in the directory ``path``; also good for a thread. Raises SampanError."""
    try:
        with Root.open(path) as root:
            if isinstance(job, jobs.ReadFile):
                return read_file(root, job.path, job.offset, job.length)
            if isinstance(job, jobs.ReadDirectory):
                return read_directory(root, job.path, job.pattern)
            return stat_path(root, job.path)
    except OSError as error:
        raise translated(error, f"cannot look at {job.path}") from error


def _places(job: jobs.Placed) -> Mapping[int, Place]:
    if isinstance(job, jobs.Change):
        return {**job.inputs, NO_INPUT: Place(), _BASE: job.base}
    if isinstance(job, jobs.Tar | jobs.Hold):
        return {index: place for index, (_, place) in enumerate(job.outputs)}
    return {0: job.place}


@contextmanager
def _shown(places: Mapping[int, Place], scratch: Path) -> Iterator[dict[int, str]]:
    """Mount what is to be mounted, and yield where each place is; unmounted again when this is left."""
    paths = _paths(places)
    check(LIBC.unshare(ctypes.c_int(_CLONE_NEWNS)), "mount namespace")
    # A slave, so that what the host unmounts meanwhile does not stay busy for our sake.
    mounts.mount("", "/", flags=mounts.MS_REC | mounts.MS_SLAVE)
    mounts.mount("tmpfs", str(scratch), "tmpfs", _SAFE, "mode=0700")
    mounted: list[str] = []
    try:
        for index in places.keys() - paths.keys():
            target = scratch / f"p{index}"
            target.mkdir(mode=0o755)
            paths[index] = str(target)
            for each in places[index].mounts:
                mounts.mount_options(each.source, str(target), each.fstype, (*each.options, *_SAFE_OPTIONS))
                mounted.append(str(target))
        yield paths
    finally:
        # Whoever removes a snapshot next must not find it in use; a namespace ends a moment after its process.
        for place_path in reversed(mounted):
            try:
                mounts.umount2(place_path)
            except OSError:
                mounts.umount2(place_path, mounts.MNT_DETACH)


def _paths(places: Mapping[int, Place]) -> dict[int, str]:
    return {index: place.path for index, place in places.items() if place.path}


def _change(job: jobs.Change, root: Callable[[int], Root]) -> Done:
    roots: dict[int, Root] = {}
    notes: list[str] = []

    def of(index: int) -> Root:
        if index not in roots:
            roots[index] = root(index)
        return roots[index]

    target = of(_BASE)
    for each in job.actions:
        owner = None if isinstance(each.action, Remove) else find_owner(each.action.owner, of, notes.append)
        _act(each, owner, of, target)
    return Done(None, tuple(dict.fromkeys(notes)))


def _act(each: FileAction, owner: Ids | None, root: Callable[[int], Root], target: Root) -> None:
    action = each.action
    if isinstance(action, Copy):
        copy(root(each.secondary_input), target, action, owner)
    elif isinstance(action, MakeFile):
        make_file(target, action, owner)
    elif isinstance(action, MakeDirectory):
        make_directory(target, action, owner)
    elif isinstance(action, MakeSymlink):
        make_link(target, action, owner)
    else:
        remove_path(target, action)


def _tar(outputs: Sequence[tuple[str, Root]]) -> None:
    buffer = bytearray()

    def write(piece: bytes) -> None:
        nonlocal buffer
        buffer += piece
        if len(buffer) >= _PIECE:
            _send(LENGTH.pack(len(buffer)) + buffer)
            buffer = bytearray()

    write_tar(outputs, write)
    if buffer:
        _send(LENGTH.pack(len(buffer)) + buffer)


def _hold(job: jobs.Hold, paths: Mapping[int, str], scratch: Path) -> Done:
    """Bind outputs below their names, say where, and stay until nobody needs them."""
    base = scratch / "outputs"
    names = [name for name, _ in job.outputs]
    if names == [""]:
        base = Path(paths[0])
    else:
        base.mkdir(mode=0o755)
        for index, name in enumerate(names):
            (base / name).mkdir(mode=0o755)
            mounts.bind(paths[index], str(base / name), flags=_SAFE | mounts.MS_RDONLY)
    _send(LENGTH.pack(0) + jobs.pack(Done(f"/proc/{os.getpid()}/root{base}")))
    while os.read(_STREAM, 1):
        pass
    for name in filter(None, names):
        mounts.umount2(str(base / name), mounts.MNT_DETACH)
    return Done(None)


def _receive() -> bytes:
    (length,) = LENGTH.unpack(_exactly(LENGTH.size))
    return _exactly(length)


def _exactly(size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = os.read(_STREAM, size - len(data))
        if not piece:
            raise EOFError("the conversation ended early")
        data += piece
    return bytes(data)


def _send(data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(_STREAM, view) :]
