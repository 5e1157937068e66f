"""Commits of repositories, from a git daemon on this host."""

import asyncio
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

from buildd.llb.ops import SourceOp
from buildd.protocol import FileWorker
from buildd.session.clients import Clients
from buildd.session.protocol import SessionInfo
from buildd.sources.git import GitSource, parse
from buildd.sources.git_commands import Access, Git
from sampan.errors import DataLossError, InvalidArgumentError, NotFoundError, RemoteError, UnimplementedError
from tests.fakes.build_sessions import FakeSession, FakeSessions
from tests.support.tools import free_port, need
from tests.unit.buildd.sources.clients import FakeContext, FlattenedFiles

COMMITTED_S = 1_700_000_000


class Repository:
    """A repository that a daemon serves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        (path / ".git/git-daemon-export-ok").touch()

    def git(self, *arguments: str) -> str:
        who = {f"GIT_{each}_{what}": value for each in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", "n"), ("EMAIL", "e"), ("DATE", f"{COMMITTED_S} +0000"))}  # fmt: skip
        command = ["git", "-c", "protocol.file.allow=always", *arguments]
        done = subprocess.run(
            command, cwd=self.path, env={**os.environ, **who}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        for name, content in files.items():
            path = self.path / name.replace("__", "/")
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "m")
        return self.git("rev-parse", "HEAD")


class World:
    def __init__(self, root: Path, url: str) -> None:
        self.url = url
        self.files = FlattenedFiles()
        self.scratch = root / "scratch"
        self.scratch.mkdir()
        self.session = FakeSession(SessionInfo("s1"))
        clients = Clients(FakeSessions(self.session))
        self.source = GitSource(cast("FileWorker", self.files), clients, self.scratch)
        self.repository = Repository(root / "served/repo")

    def op(self, fragment: str = "", repository: str = "repo", **attributes: str) -> SourceOp:
        attrs = {f"git.{key}": value for key, value in attributes.items()}
        return SourceOp(f"git://x#{fragment}", {"git.fullurl": f"{self.url}/{repository}", **attrs})

    async def get(self, op: SourceOp) -> dict[str, tuple[bytes, int, int]]:
        async with FakeContext("s1") as context:
            pinned = await self.source.pin(op, context)
            return self.files.of(await self.source.fetch(op, pinned, context))


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    need("git")
    port = free_port()
    base = tmp_path / "served"
    base.mkdir()
    daemon = await asyncio.create_subprocess_exec(
        *("git", "daemon", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}", f"--base-path={base}", str(base)),
        start_new_session=True,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    break
        world = World(tmp_path, f"git://127.0.0.1:{port}")
        yield world
        assert list(world.scratch.iterdir()) == []
    finally:
        os.killpg(daemon.pid, 15)
        await daemon.wait()


async def test_a_commit_is_the_same_tree_each_time(world: World) -> None:
    commit = world.repository.commit(a="A", d__b="B")
    async with FakeContext() as context:
        assert (await world.source.pin(world.op(), context)).pin == commit
    first = await world.get(world.op())
    assert first == {
        "a": (b"A", 0o644, COMMITTED_S), "d": (b"", 0o755, COMMITTED_S), "d/b": (b"B", 0o644, COMMITTED_S),
    }  # fmt: skip
    assert await world.get(world.op(commit)) == first
    assert await world.get(world.op("main")) == first
    assert await world.get(world.op("refs/heads/main")) == first


async def test_branches_come_before_tags_and_tags_are_their_commits(world: World) -> None:
    first = world.repository.commit(a="1")
    world.repository.git("tag", "--annotate", "--message=t", "v1")
    world.repository.git("tag", "both")
    second = world.repository.commit(a="2")
    world.repository.git("branch", "both")
    async with FakeContext() as context:
        pins = [
            (await world.source.pin(world.op(ref), context)).pin
            for ref in ("v1", "refs/tags/v1", "both", "refs/tags/both")
        ]
    assert pins == [first, first, second, first]
    assert (await world.get(world.op("v1")))["a"][0] == b"1"


async def test_objects_are_those_that_git_hashes(world: World) -> None:
    commit = world.repository.commit(a="A")
    world.repository.git("tag", "--annotate", "--message=t", "v1")
    world.repository.git("tag", "light")
    tag = world.repository.git("rev-parse", "v1")
    for ref, annotated in (("v1", tag), ("light", ""), ("main", ""), ("", ""), (commit, "")):
        async with FakeContext() as context:
            pinned = await world.source.pin(world.op(ref), context)
            found = await world.source.objects(world.op(ref), pinned, context)
        assert hashed("commit", found.commit) == pinned.pin == commit
        assert found.tag_hash == annotated
        if annotated:
            assert hashed("tag", found.tag) == annotated
        else:
            assert found.tag == b""
    assert list(world.scratch.iterdir()) == []


def hashed(kind: str, data: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(data)}\0".encode() + data).hexdigest()


async def test_a_commit_that_is_no_ref_s_any_more(world: World) -> None:
    first = world.repository.commit(a="1")
    world.repository.commit(a="2")
    assert (await world.get(world.op(first)))["a"][0] == b"1"


async def test_a_ref_that_moves_between_the_two(world: World) -> None:
    world.repository.commit(a="1")
    op = world.op("main")
    async with FakeContext() as context:
        pinned = await world.source.pin(op, context)
        world.repository.commit(a="2")
        assert world.files.of(await world.source.fetch(op, pinned, context))["a"][0] == b"1"


async def test_parts_of_a_tree_and_links_in_it(world: World, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    world.repository.commit(d__e="E")
    (world.repository.path / "l").symlink_to("d")
    (world.repository.path / "out").symlink_to(tmp_path / "outside")
    world.repository.commit()
    assert list(await world.get(world.op(":d"))) == ["e"]
    assert list(await world.get(world.op("main:l/"))) == ["e"]
    for part in ("out", "none", "d/e"):
        with pytest.raises(NotFoundError, match=f"the repository has no directory {part}"):
            await world.get(world.op(f"main:{part}"))


async def test_git_s_own_directory_is_kept_if_that_is_asked_for(world: World) -> None:
    commit = world.repository.commit(a="A")
    kept = await world.get(world.op("main", keepgitdir="true"))
    assert {"a", ".git/HEAD", ".git/config"} <= set(kept)
    assert kept[".git/HEAD"][0].decode().strip() == commit
    assert world.url.encode() in kept[".git/config"][0]


async def test_submodules(world: World) -> None:
    other = Repository(world.repository.path.parent / "other")
    other.commit(s="S")
    world.repository.commit(a="A")
    world.repository.git("submodule", "add", "--quiet", f"{world.url}/other", "sub")
    world.repository.commit()
    assert set(await world.get(world.op())) == {"a", "sub", "sub/s", ".gitmodules"}
    assert set(await world.get(world.op(skipsubmodules="true"))) == {"a", "sub", ".gitmodules"}


async def test_a_submodule_leads_to_no_directory_of_this_host(world: World, tmp_path: Path) -> None:
    secret = Repository(tmp_path / "secret")
    secret.commit(s="S")
    world.repository.commit(a="A")
    world.repository.git("submodule", "add", "--quiet", str(secret.path), "sub")
    world.repository.commit()
    with pytest.raises(RemoteError, match="transport 'file' not allowed"):
        await world.get(world.op())


async def test_hooks_and_filters_of_a_repository_are_not_run(world: World, tmp_path: Path) -> None:
    world.repository.commit(a="A")
    (world.repository.path / ".gitattributes").write_text("* filter=evil\n")
    (world.repository.path / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (world.repository.path / "post-checkout").chmod(0o755)
    world.repository.commit()
    assert "post-checkout" in await world.get(world.op())
    assert not (tmp_path / "ran").exists()


async def test_a_checksum_is_held_to(world: World) -> None:
    commit = world.repository.commit(a="A")
    await world.get(world.op(checksum=commit[:12]))
    with pytest.raises(DataLossError, match=f"expected checksum to match {'0' * 40}, got {commit}"):
        await world.get(world.op(checksum="0" * 40))


async def test_what_is_not_there(world: World) -> None:
    world.repository.commit(a="A")
    with pytest.raises(NotFoundError, match="repository does not contain ref nothing"):
        await world.get(world.op("nothing"))
    with pytest.raises(RemoteError, match="failed to fetch remote"):
        await world.get(world.op(repository="none"))
    with pytest.raises(RemoteError, match="failed to fetch remote"):
        await world.get(world.op("0" * 40))


async def test_without_git(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildd.sources.git_commands.shutil.which", lambda _: None)
    with pytest.raises(UnimplementedError, match=r"git is not installed on this host.*install the package git"):
        await world.get(world.op())


async def test_cancelled_work_ends(world: World, tmp_path: Path) -> None:
    async def stay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await reader.read()
        writer.close()

    arrived = asyncio.Event()
    listening = await asyncio.start_server(stay, "127.0.0.1", 0)
    url = f"git://127.0.0.1:{listening.sockets[0].getsockname()[1]}/x"
    asking = asyncio.create_task(world.get(SourceOp("git://x", {"git.fullurl": url})))
    async with asyncio.timeout(60):
        await arrived.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    listening.close()


async def test_secrets_are_in_no_command_line_and_no_log(tmp_path: Path) -> None:
    need("git")
    said: list[bytes] = []
    git = Git(tmp_path, Access({"https://example.com/": "basic c2VjcmV0"}), said.append)
    shown = await git.run("config", "--get-urlmatch", "http.extraHeader", "https://example.com/x", directory=tmp_path)
    assert shown.strip() == "Authorization: basic c2VjcmV0"
    assert await git.run("config", "--get", "core.hooksPath", directory=tmp_path) == "/dev/null\n"
    with pytest.raises(RemoteError) as failure:
        await git.run("ls-remote", "--", "http://user:password@127.0.0.1:1/x", directory=tmp_path)
    assert "password" not in str(failure.value)


@pytest.mark.parametrize(
    "url",
    [
        "-u", "--upload-pack=x", "/etc", "../x", "file:///etc", "ext::sh -c id", "ssh://-oProxyCommand=x/y", "fd::17",
        "http://", "git@host", "-x@host:y",
    ],
)  # fmt: skip
def test_repositories_that_cannot_be(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid repository"):
        parse(SourceOp("git://x", {"git.fullurl": url}))


@pytest.mark.parametrize(
    "fragment",
    [
        "-x",
        "--upload-pack=x",
        "a..b",
        "a b",
        "a^",
        "a~1",
        "@{1}",
        "a\x00",
        "/a",
        "a/",
        "a.lock",
        ":../x",
        "a:b/../../c",
    ],
)
def test_refs_and_directories_that_cannot_be(fragment: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"invalid (ref|directory)"):
        parse(SourceOp(f"git://x/y#{fragment}"))


@pytest.mark.parametrize(
    ("identifier", "url", "remote"),
    [
        ("git://github.com/a/b", "", "https://github.com/a/b"),
        ("git://github.com/a/b", "git@github.com:a/b", "git@github.com:a/b"),
        ("git://x", "ssh://git@h:22/a", "ssh://git@h:22/a"),
    ],
)
def test_repositories(identifier: str, url: str, remote: str) -> None:
    assert parse(SourceOp(f"{identifier}#v1:d", {"git.fullurl": url} if url else {})).remote == remote
