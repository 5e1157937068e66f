"""``git://``: commits of repositories.

Reference: moby/buildkit, solver/pb/attr.go, ``AttrGit*``; git-ls-remote(1), gitsubmodules(7).
"""

import asyncio
import base64
import os
import re
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from buildd.files.root import Root
from buildd.llb.ops import SourceOp
from buildd.protocol import Directory, FileWorker, Output, Pinned, StepContext
from buildd.session.clients import Clients
from buildd.session.protocol import SocketOwner
from buildd.source_metadata import GitObjects
from buildd.sources.attributes import check_attributes, flag
from buildd.sources.git_commands import Access, Git, without_user
from sampan.errors import DataLossError, InvalidArgumentError, NotFoundError, RemoteError
from sampan.sys.trees import Descent, Names, temporary_tree

SCHEME: Final = "git"

_ATTRIBUTES: Final = (
    "git.fullurl",
    "git.keepgitdir",
    "git.authheadersecret",
    "git.authtokensecret",
    "git.mountsshsock",
    "git.knownsshhosts",
    "git.checksum",
    "git.skipsubmodules",
)
_SCHEMES: Final = ("git", "http", "https", "ssh")
_SCP: Final = re.compile(r"[A-Za-z0-9_.-]+@[A-Za-z0-9_.-]+:[^\s:].*")
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CHECKSUM: Final = re.compile(r"[0-9a-f]{4,64}")
# git-check-ref-format(1): no blanks, no control characters, none of what means something to git.
_REF: Final = re.compile(r"(?![-/.])(?!.*(?:\.\.|//|@\{|/\.|\.lock(?:/|$)))[^\x00-\x20\x7f~^:?*\[\\]+(?<![/.])")
_GIT_DIRECTORY: Final = b".git"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a source names."""

    remote: str
    ref: str  # empty: the remote's HEAD
    directory: str
    keep_git: bool
    submodules: bool
    checksum: str

    def key(self, commit: str) -> str:
        """What is equal for equal files."""
        return "\n".join((commit, self.directory, str(self.keep_git), str(self.submodules)))


class GitSource:
    """Checks commits out."""

    def __init__(self, files: FileWorker, clients: Clients, scratch: Path) -> None:
        """``scratch`` is a directory for what is on its way."""
        self._files = files
        self._clients = clients
        self._scratch = scratch

    async def pin(self, op: SourceOp, context: StepContext) -> Pinned:
        """See ``Sources.pin``: a commit that is named by its hash needs no look at the repository."""
        wanted = parse(op)
        if _COMMIT.fullmatch(wanted.ref):
            commit = wanted.ref
        else:
            async with self._git(op, wanted, context) as (git, place):
                commit = await _find(git, place, wanted)
        if not commit.startswith(wanted.checksum):
            raise DataLossError(f"expected checksum to match {wanted.checksum}, got {commit}")
        return Pinned(wanted.key(commit), commit)

    async def fetch(self, op: SourceOp, pinned: Pinned, context: StepContext) -> Output:
        """See ``Sources.fetch``."""
        wanted = parse(op)
        async with self._git(op, wanted, context) as (git, place):
            tree = place / "tree"
            tree.mkdir(mode=0o755)
            await _check_out(git, tree, wanted, pinned.pin)
            time_s = int((await git.run("show", "-s", "--format=%ct", "HEAD", "--", directory=tree)).strip() or 0)
            await asyncio.to_thread(_finish, tree, time_s, keep_git=wanted.keep_git)
            return await self._files.flatten(Directory(await asyncio.to_thread(_inside, tree, wanted.directory)))

    async def objects(self, op: SourceOp, pinned: Pinned, context: StepContext) -> GitObjects:
        """See ``Sources.git_objects``."""
        wanted = parse(op)
        async with self._git(op, wanted, context) as (git, place):
            tree = place / "tree"
            tree.mkdir(mode=0o755)
            await _bring(git, tree, wanted, pinned.pin)
            commit = await git.run("cat-file", "commit", pinned.pin, directory=tree)
            found = GitObjects(commit.encode(errors="surrogateescape"))
            if not wanted.ref or _COMMIT.fullmatch(wanted.ref):
                return found
            await git.run("fetch", "--no-tags", "--depth=1", "origin", wanted.ref, directory=tree)
            head = (await git.run("rev-parse", "FETCH_HEAD", "FETCH_HEAD^{commit}", directory=tree)).split()
            if head[0] == head[1] or head[1] != pinned.pin:  # no annotated tag, or another one by now
                return found
            tag = await git.run("cat-file", "tag", head[0], directory=tree)
            return replace(found, tag=tag.encode(errors="surrogateescape"), tag_hash=head[0])

    @asynccontextmanager
    async def _git(self, op: SourceOp, wanted: Wanted, context: StepContext) -> AsyncIterator[tuple[Git, Path]]:
        """Yield git with what it needs for a repository, and a directory that is gone afterwards."""
        async with temporary_tree(self._scratch) as place, AsyncExitStack() as stack:
            headers = await self._headers(op, wanted, context)
            agent = known_hosts = None
            if id_ := op.attrs.get("git.mountsshsock"):
                session = await self._clients.first(context)
                agent = place / "agent"
                await stack.enter_async_context(session.ssh_socket(id_, agent, SocketOwner()))
            if hosts := op.attrs.get("git.knownsshhosts"):
                known_hosts = place / "known_hosts"
                known_hosts.write_text(hosts)
            home = place / "home"
            home.mkdir()
            yield Git(home, Access(headers, agent, known_hosts), lambda text: context.log(text, 2)), place

    async def _headers(self, op: SourceOp, wanted: Wanted, context: StepContext) -> dict[str, str]:
        """Return what a client has for the repository's server: a header, or a token."""
        parts = urlsplit(wanted.remote)
        if parts.scheme not in ("http", "https"):
            return {}
        host = parts.netloc.rpartition("@")[2]
        for attribute, token in (("git.authheadersecret", False), ("git.authtokensecret", True)):
            name = op.attrs.get(attribute)
            for each in (f"{name}.{host}", name) if name else ():
                if value := await self._clients.secret(each, context):
                    basic = base64.b64encode(f"x-access-token:{value}".encode()).decode()
                    return {f"{parts.scheme}://{host}/": f"basic {basic}" if token else value}
        return {}


def parse(op: SourceOp) -> Wanted:
    """Return what a source names.

    Raises:
        InvalidArgumentError: a remote, ref or directory that cannot be; an attribute that is not known.
    """
    check_attributes(SCHEME, op.attrs, _ATTRIBUTES)
    address, _, fragment = op.identifier.partition("://")[2].partition("#")
    ref, _, directory = fragment.partition(":")
    remote = op.attrs.get("git.fullurl") or f"https://{address}"
    shown = without_user(remote)[:200]
    scheme = remote.partition("://")[0] if "://" in remote else ""
    local = not scheme and not _SCP.fullmatch(remote)
    if local or (scheme and scheme not in _SCHEMES) or remote.startswith("-") or not remote.isprintable():
        raise InvalidArgumentError(f"invalid repository {shown!r}: expected {', '.join(_SCHEMES)} or user@host:path")
    if scheme and (urlsplit(remote).hostname or "-").startswith("-"):
        raise InvalidArgumentError(f"invalid repository {shown!r}: it has no host")
    if ref and not _REF.fullmatch(ref):
        raise InvalidArgumentError(f"invalid ref {ref[:200]!r} of {shown}")
    if any(part == ".." for part in directory.split("/")) or "\0" in directory:
        raise InvalidArgumentError(f"invalid directory {directory[:200]!r} of {shown}")
    checksum = op.attrs.get("git.checksum", "")
    if checksum and not _CHECKSUM.fullmatch(checksum):
        raise InvalidArgumentError(f"invalid checksum {checksum[:100]!r}: expected a commit's hash")
    return Wanted(
        remote,
        ref,
        directory.strip("/"),
        flag(op.attrs, "git.keepgitdir"),
        not flag(op.attrs, "git.skipsubmodules"),
        checksum,
    )


async def _find(git: Git, place: Path, wanted: Wanted) -> str:
    """Ask the remote which commit a ref is."""
    ref = wanted.ref or "HEAD"
    shown = without_user(wanted.remote)
    try:
        answer = await git.run("ls-remote", "--", wanted.remote, ref, f"{ref}^{{}}", directory=place, shown=False)
    except RemoteError as error:
        raise RemoteError(f"failed to fetch remote {shown}: {error}") from error
    found: dict[str, str] = {}
    for line in answer.splitlines():
        commit, _, name = line.partition("\t")
        if _COMMIT.fullmatch(commit):
            found[name] = commit
    # What is named in full, then branches, then the commits of tags.
    for name in (f"{ref}^{{}}", ref, f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/{ref}"):
        if name in found:
            return found[name]
    raise NotFoundError(f"repository does not contain ref {ref}: {shown}")


async def _check_out(git: Git, tree: Path, wanted: Wanted, commit: str) -> None:
    """Make ``tree`` a checkout of a commit, with as little history as the server lets one have."""
    await _bring(git, tree, wanted, commit)
    await git.run("checkout", "--quiet", "--detach", commit, "--", directory=tree)
    if wanted.submodules and (tree / ".gitmodules").is_file():
        await git.run("submodule", "update", "--init", "--recursive", "--depth=1", directory=tree)


async def _bring(git: Git, tree: Path, wanted: Wanted, commit: str) -> None:
    """Make ``tree`` a repository that has a commit."""
    await git.run("init", "--quiet", directory=tree, shown=False)
    await git.run("remote", "add", "--", "origin", wanted.remote, directory=tree, shown=False)
    ref = wanted.ref if wanted.ref and not _COMMIT.fullmatch(wanted.ref) else "HEAD"
    everything = ("+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*")
    failure: RemoteError | None = None
    # Not every server gives a commit by its hash, and a ref may have moved on.
    for arguments in (("--depth=1", "origin", commit), ("--depth=1", "origin", ref), ("origin", *everything)):
        try:
            await git.run("fetch", "--no-tags", "--force", "--progress", *arguments, directory=tree)
            await git.run("cat-file", "-e", f"{commit}^{{commit}}", directory=tree, shown=False)
            break
        except RemoteError as error:
            failure = failure or error
    else:
        raise RemoteError(f"failed to fetch remote {without_user(wanted.remote)}: {failure}")


def _finish(tree: Path, time_s: int, *, keep_git: bool) -> None:
    """Give all files the commit's time, so that a commit is the same layer each time; take git's own ones away."""
    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Descent(root) as descent:
            frames = [_touch(descent.fd, time_s, keep_git=keep_git)]
            while frames:
                if frames[-1]:
                    descent.enter(frames[-1].pop())
                    frames.append(_touch(descent.fd, time_s, keep_git=keep_git))
                    continue
                os.utime(descent.fd, (time_s, time_s))
                frames.pop()
                if frames:
                    descent.leave()
    finally:
        os.close(root)


def _touch(directory: int, time_s: int, *, keep_git: bool) -> Names:
    """Set the times of files in a directory, and return the directories in it."""
    below = Names()
    with os.scandir(directory) as entries:
        listed = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in listed:
        if name == _GIT_DIRECTORY and not keep_git:
            from sampan.sys.trees import remove_tree_at

            remove_tree_at(directory, name)
        elif is_directory:
            below.push(name)
        else:
            os.utime(name, (time_s, time_s), dir_fd=directory, follow_symlinks=False)
    return below


def _inside(tree: Path, directory: str) -> Path:
    """Return where a directory of a checkout is; links lead nowhere else. Raises NotFoundError."""
    with Root.open(tree) as root:
        real = root.real(directory)
        found = root.stat(real)
    if found is None or not stat.S_ISDIR(found.st_mode):
        raise NotFoundError(f"the repository has no directory {directory}")
    return tree / real
