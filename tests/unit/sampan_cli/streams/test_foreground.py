"""run, start, attach, exec, logs: what stands for a process elsewhere."""

import pytest

from tests.fakes.engine import image
from tests.unit.sampan_cli.conftest import Sampan, Streams


@pytest.fixture(autouse=True)
def _busybox(sampan: Sampan) -> None:
    sampan.fake.images.add(image("busybox:latest"))
    sampan.fake.images.remote["debian:12"] = image("debian:12")


def test_run_writes_both_streams_and_has_the_containers_exit_code(sampan: Sampan, streams: Streams) -> None:
    assert sampan("run", "busybox", "echo", "out").exit_code == 0
    assert sampan("run", "busybox", "err", "wrong").exit_code == 0
    assert sampan("run", "busybox", "exit", "7").exit_code == 7
    assert (streams.output(), streams.errors()) == (b"out\n", b"wrong\n")


def test_input_reaches_the_process_and_ends_when_ours_does(sampan: Sampan, streams: Streams) -> None:
    assert sampan("run", "-i", "busybox", "cat").exit_code == 0
    assert streams.output() == b"typed\n"


def test_without_interactive_nothing_is_read(sampan: Sampan, streams: Streams) -> None:
    assert sampan("run", "busybox", "true").exit_code == 0
    assert sampan("run", "-i", "busybox", "cat").exit_code == 0
    assert streams.output() == b"typed\n", "the first run left the input alone"


def test_a_flood_arrives_whole(sampan: Sampan, streams: Streams) -> None:
    assert sampan("run", "busybox", "flood", str(4 << 20)).exit_code == 0
    assert len(streams.output()) == 4 << 20


def test_rm_returns_when_the_container_is_gone(sampan: Sampan, streams: Streams) -> None:
    assert sampan("run", "--rm", "busybox", "exit", "3").exit_code == 3
    assert not sampan.fake.runtime.containers.held


def test_command_that_is_not_there_is_127_and_leaves_nothing_with_rm(sampan: Sampan, streams: Streams) -> None:
    result = sampan("run", "--rm", "busybox", "missing")
    assert result.exit_code == 127
    assert result.stderr == 'sampan: exec: "missing": executable file not found in $PATH\n'
    assert not sampan.fake.runtime.containers.held


def test_name_in_use_is_125(sampan: Sampan, streams: Streams) -> None:
    sampan.container("true", name="web")
    result = sampan("run", "--name", "web", "busybox", "true")
    assert result.exit_code == 125
    assert 'The container name "/web" is already in use' in result.stderr


def test_missing_image_is_pulled_with_progress_on_stderr(sampan: Sampan, streams: Streams) -> None:
    result = sampan("run", "-d", "debian:12", "sleep")
    assert result.exit_code == 0
    assert result.stderr.startswith("Unable to find image 'debian:12' locally\n12: Pulling from library/debian\n")
    assert "Status: Downloaded newer image for debian:12" in result.stderr
    assert len(result.stdout.strip()) == 64


def test_image_that_is_nowhere_is_125(sampan: Sampan, streams: Streams) -> None:
    result = sampan("run", "nosuch", "true")
    assert result.exit_code == 125
    assert "pull access denied for nosuch" in result.stderr
    never = sampan("run", "--pull", "never", "nosuch", "true")
    assert never.exit_code == 125
    assert never.stderr == "sampan: No such image: nosuch:latest\n"


def test_terminal_needs_a_terminal(sampan: Sampan, streams: Streams) -> None:
    result = sampan("run", "-it", "busybox", "sh")
    assert result.exit_code == 125
    assert result.stderr == "sampan: the input device is not a TTY\n"
    assert not sampan.fake.runtime.containers.held


def test_cidfile_gets_the_id_and_is_never_overwritten(sampan: Sampan, streams: Streams) -> None:
    cidfile = streams.directory / "cid"
    container = sampan.ok("create", "--cidfile", str(cidfile), "busybox", "true").strip()
    assert cidfile.read_text() == container
    result = sampan("create", "--cidfile", str(cidfile), "busybox", "true")
    assert result.exit_code == 1
    assert "container ID file found" in result.stderr


def test_volumes_from_another_container_are_mounted_here_too(sampan: Sampan, streams: Streams) -> None:
    source = sampan.fake.runtime.containers.held[sampan.container("true", name="data")]
    source.record.mounts.add(type="BIND", source="/a", target="/a", read_write=True)
    source.record.mounts.add(type="VOLUME", name="v", driver="nfs", source="/x", target="/v", read_write=True)
    created = sampan.ok("create", "--volumes-from", "data:ro", "-v", "/own:/a", "busybox", "true").strip()
    mounts = sampan.fake.runtime.containers.held[created].record.spec.mounts
    assert [(mount.source, mount.target, mount.volume_driver, mount.read_only) for mount in mounts] == [
        ("/own", "/a", "", False),
        ("v", "/v", "nfs", True),
    ]


def test_start_attached_has_the_containers_exit_code(sampan: Sampan, streams: Streams) -> None:
    sampan.container("exit", "5", name="job")
    assert sampan("start", "-a", "job").exit_code == 5


def test_start_of_several_cannot_attach(sampan: Sampan, streams: Streams) -> None:
    result = sampan("start", "-a", "one", "two")
    assert result.exit_code == 1
    assert "you cannot start and attach multiple containers at once" in result.stderr


def test_attach_to_what_does_not_run_is_refused(sampan: Sampan, streams: Streams) -> None:
    sampan.container("true", name="job")
    result = sampan("attach", "job")
    assert result.exit_code == 1
    assert result.stderr == "sampan: You cannot attach to a stopped container, start it first\n"


def test_exec_has_streams_and_an_exit_code(sampan: Sampan, streams: Streams) -> None:
    sampan.container("sleep", name="web")
    sampan.ok("start", "web")
    assert sampan("exec", "-i", "web", "cat").exit_code == 0
    assert sampan("exec", "web", "err", "no").exit_code == 0
    assert sampan("exec", "web", "exit", "4").exit_code == 4
    assert (streams.output(), streams.errors()) == (b"typed\n", b"no\n")


def test_logs_keep_the_streams_apart_and_may_have_times(sampan: Sampan, streams: Streams) -> None:
    sampan.container("true", name="job")
    sampan.ok("logs", "job")
    assert (streams.output(), streams.errors()) == (b"one\nthree\n", b"two\n")
    sampan.ok("logs", "-t", "-n", "1", "job")
    assert streams.output().endswith(b"three\n2023-11-14T22:13:20.000001000Z three\n")
    bad = sampan("logs", "--tail", "some", "job")
    assert bad.stderr == "sampan: invalid tail 'some': expected a number of lines or 'all'\n"
