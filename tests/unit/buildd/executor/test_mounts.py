import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from buildd.executor.granted import Granted
from buildd.llb.ops import (
    CacheMount,
    Mount,
    MountType,
    SecretEnv,
    SecretMount,
    Sharing,
    SshMount,
)
from buildd.protocol import Directory, ProcessError, Tree
from buildd.session.protocol import SocketOwner
from sampan.build.step import (
    DirectorySource,
    FileSource,
    SnapshotSource,
    SocketSource,
    TmpfsSource,
)
from sampan.errors import InvalidArgumentError, NotFoundError
from tests.fakes.build_sessions import FakeSessions
from tests.fakes.steps import RunningStep
from tests.unit.buildd.executor.executing import ROOT, Yard, op, writes


async def test_an_input_that_is_read_is_one_view_however_often_it_is_mounted(executing: Yard) -> None:
    other = executing.world.tree({"src/a": b""})
    step = op(Mount("/a", input=1, selector="/src", read_only=True), Mount("/b", input=1, read_only=True))
    await executing.run(step, [executing.base, other])
    one, two = executing.mount("/a").source, executing.mount("/b").source
    assert isinstance(one, SnapshotSource)
    assert isinstance(two, SnapshotSource)
    assert (one.path, executing.mount("/a").read_only) == ("/src", True)
    assert two == SnapshotSource(one.key)


async def test_what_is_written_to_an_input_is_thrown_away(executing: Yard) -> None:
    writes(executing, "made", b"1", into="/in")
    other = executing.world.tree({"src/a": b""})
    step = op(Mount("/in", input=1), Mount("/again", input=1), command="write")
    assert await executing.run(step, [executing.base, other]) == [executing.base]
    one, two = executing.mount("/in").source, executing.mount("/again").source
    assert isinstance(one, SnapshotSource)
    assert isinstance(two, SnapshotSource)
    assert one.key != two.key


async def test_a_mount_may_be_an_output(executing: Yard) -> None:
    writes(executing, "made", b"1", into="/out")
    step = op(Mount("/out", input=1, output=1), command="write")
    root, out = await executing.run(step, [executing.base, executing.world.tree({"old": b""})])
    assert root == executing.base
    assert executing.world.files(out) == {"old": b"", "made": b"1"}


async def test_an_output_may_begin_empty(executing: Yard) -> None:
    writes(executing, "made", b"1", into="/out")
    _, out = await executing.run(op(Mount("/out", output=1), command="write"))
    assert executing.world.files(out) == {"made": b"1"}


async def test_an_output_that_is_read_only_is_its_input(executing: Yard) -> None:
    other = executing.world.tree({"src/a": b""})
    assert await executing.run(op(Mount("/a", input=1, output=1, read_only=True)), [executing.base, other]) == [
        executing.base,
        other,
    ]


async def test_outputs_are_counted_from_0(executing: Yard) -> None:
    with pytest.raises(InvalidArgumentError, match="counted from 0"):
        await executing.run(op(Mount("/out", output=2)))


async def test_a_clients_directory_is_mounted_as_it_is_and_never_written_to(executing: Yard) -> None:
    executing.world.directories[Path("/context")] = {"a": b""}
    step = op(Mount("/a", input=1, selector="/src", read_only=True), Mount("/b", input=1))
    await executing.run(step, [executing.base, Directory(Path("/context"))])
    assert executing.mount("/a").source == DirectorySource("/context", "/src")
    assert executing.mount("/b").source == DirectorySource("/context", "", discard=True)


async def test_a_clients_directory_may_be_the_root(executing: Yard) -> None:
    executing.world.directories[Path("/context")] = {"a": b""}
    (tree,) = await executing.run(op(), [Directory(Path("/context"))])
    assert executing.world.files(tree) == {"a": b""}


async def test_a_root_that_is_read_only_stays_what_it_is(executing: Yard) -> None:
    step = replace(op(), mounts=(replace(ROOT, read_only=True),))
    assert await executing.run(step) == [executing.base]
    assert executing.spec.root_read_only


async def test_a_step_may_begin_with_nothing(executing: Yard) -> None:
    step = replace(op(), mounts=(Mount("/", output=0),))
    assert await executing.run(step, []) == [Tree()]


@pytest.mark.parametrize("mounts", [(), (ROOT, ROOT), (Mount("/", MountType.TMPFS),)])
async def test_a_step_has_one_root(executing: Yard, mounts: tuple[Mount, ...]) -> None:
    with pytest.raises(InvalidArgumentError, match="one mount at /"):
        await executing.run(replace(op(), mounts=mounts))


async def test_mounts_further_up_come_first_and_paths_are_the_steps_own(executing: Yard) -> None:
    step = op(
        Mount("/a/b", MountType.TMPFS, tmpfs_bytes=10), Mount("/a-b", MountType.TMPFS), Mount("c", MountType.TMPFS),
        Mount("/a", MountType.TMPFS), cwd="/a/b",
    )  # fmt: skip
    await executing.run(step)
    assert [each.target for each in executing.spec.mounts] == ["/a", "/a/b", "/a/b/c", "/a-b"]
    assert executing.mount("/a/b").source == TmpfsSource(10)


async def test_what_a_step_that_failed_has_written_stays_with_its_builds(executing: Yard) -> None:
    async def fails(step: RunningStep) -> int:
        executing.trees.written[step.spec.root]["half"] = b"made"
        return 7

    executing.steps.programs["fail"] = fails
    work = executing.context()
    mounts = Mount("/in", input=1, read_only=True), Mount("/new", output=1), Mount("/tmp", type=MountType.TMPFS)
    other = executing.world.tree({"there": b"1"})
    with pytest.raises(ProcessError):
        await executing.executor.run(op(*mounts, command="fail"), [executing.base, other], None, work)
    assert [each.before for each in work.remains] == [executing.base, other, None, None]
    root, shown, made, memory = [each.after for each in work.remains]
    assert memory is None
    assert root is not None
    assert shown is not None
    assert made is not None
    tree = await root()
    assert executing.world.files(tree)["half"] == b"made"
    assert await root() is tree
    assert await shown() == other
    assert executing.trees.snapshots  # what the other mount has become, which nobody has asked for
    await work.holding.release()
    assert executing.trees.snapshots == {}


async def test_a_secret_is_a_file_in_memory(executing: Yard) -> None:
    executing.client.secrets["token"] = b"hush"
    secret = SecretMount("token", 1, 2, 0o440)
    await executing.run(op(Mount("/run/secrets/token", MountType.SECRET, secret=secret)))
    assert executing.mount("/run/secrets/token").source == FileSource(b"hush", 0o440, 1, 2)
    assert executing.mount("/run/secrets/token").read_only


async def test_a_secret_that_is_missing_is_an_error_unless_it_may_be(executing: Yard) -> None:
    with pytest.raises(NotFoundError, match=r"^secret token: not found$"):
        await executing.run(op(Mount("/t", MountType.SECRET, secret=SecretMount("token"))))
    with pytest.raises(NotFoundError, match=r"^secret token: not found$"):
        await executing.run(replace(op(), secret_env=(SecretEnv("token", "TOKEN"),)))
    await executing.run(op(Mount("/t", MountType.SECRET, secret=SecretMount("token", optional=True))))
    assert executing.spec.mounts == ()


async def test_a_secret_that_no_variable_can_hold_is_refused(executing: Yard) -> None:
    executing.client.secrets["token"] = b"a\0b"
    with pytest.raises(InvalidArgumentError, match="zero byte"):
        await executing.run(replace(op(), secret_env=(SecretEnv("token", "TOKEN"),)))


async def test_an_agent_is_a_socket_while_the_step_runs(executing: Yard) -> None:
    executing.client.agents.add("default")
    seen = []

    async def look(step: RunningStep) -> int:
        seen.extend(executing.client.sockets)
        return 0

    executing.steps.programs["look"] = look
    await executing.run(op(Mount("/agent", MountType.SSH, ssh=SshMount("", 5, 6, 0o660)), command="look"))
    ((name, path, owner),) = seen
    assert (name, owner) == ("default", SocketOwner(5, 6, 0o660))
    assert executing.mount("/agent").source == SocketSource(str(path))
    with pytest.raises(NotFoundError, match=r'^no SSH key "work" forwarded from the client$'):
        await executing.run(op(Mount("/agent", MountType.SSH, ssh=SshMount("work"))))
    await executing.run(op(Mount("/agent", MountType.SSH, ssh=SshMount("work", optional=True))))
    assert executing.spec.mounts == ()


async def test_a_start_removes_sockets_of_the_last_one(executing: Yard, tmp_path: Path) -> None:
    (tmp_path / "ssh").mkdir()
    (tmp_path / "ssh" / "0011223344556677").write_bytes(b"")
    granted = Granted(FakeSessions(), tmp_path / "ssh")
    granted.recover()
    granted.recover()
    assert not (tmp_path / "ssh").exists()


async def test_a_cache_mount_is_the_same_directory_the_next_time(executing: Yard) -> None:
    step = op(Mount("/cache", MountType.CACHE, cache=CacheMount("c")))
    await executing.run(step)
    source = executing.mount("/cache").source
    assert isinstance(source, DirectorySource)
    (Path(source.directory) / "kept").write_bytes(b"1")
    await executing.run(step)
    assert executing.mount("/cache").source == source
    assert (Path(source.directory) / "kept").read_bytes() == b"1"


async def test_a_locked_cache_mount_is_one_steps_at_a_time(executing: Yard) -> None:
    running, most = 0, 0

    async def work(step: RunningStep) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(20):
            await asyncio.sleep(0)
        running -= 1
        return 0

    executing.steps.programs["work"] = work
    step = op(Mount("/c", MountType.CACHE, cache=CacheMount("c", Sharing.LOCKED)), command="work")
    await asyncio.gather(*(executing.run(step) for _ in range(3)))
    assert most == 1


async def test_steps_with_the_same_locked_mounts_do_not_wait_for_each_other_forever(executing: Yard) -> None:
    def locked(target: str, name: str) -> Mount:
        return Mount(target, MountType.CACHE, cache=CacheMount(name, Sharing.LOCKED))

    one, other = op(locked("/1", "a"), locked("/2", "b")), op(locked("/1", "b"), locked("/2", "a"))
    async with asyncio.timeout(60):
        await asyncio.gather(*(executing.run(each) for each in (one, other, one, other)))


async def test_two_mounts_of_one_name_are_one_directory(executing: Yard) -> None:
    cache = CacheMount("c", Sharing.LOCKED)
    await executing.run(op(Mount("/1", MountType.CACHE, cache=cache), Mount("/2", MountType.CACHE, cache=cache)))
    assert executing.mount("/1").source == executing.mount("/2").source
