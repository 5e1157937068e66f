"""A command that a warm process runs behaves as one that runs by itself: rights, files, surroundings, exit codes."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan_cli.warm.request import GREETING, SOCKET
from tests.integration.cli.warm import commands, lasting, warm_parent, workers
from tests.support.engine import SAMPAN, Engine, run_engine
from tests.support.tools import cannot_run, eventually, need, open_files, remove_group, status

pytestmark = pytest.mark.root

SECRET = "what only the engine was started with"
NOBODY = 65534


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """An engine that was started with a variable of its own."""
    os.environ["OF_THE_ENGINE"] = SECRET
    try:
        with run_engine() as running:
            del os.environ["OF_THE_ENGINE"]
            yield running
    finally:
        os.environ.pop("OF_THE_ENGINE", None)


@pytest.fixture(autouse=True)
def _nothing_is_left(engine: Engine) -> Iterator[None]:
    yield
    eventually(lambda: not workers(engine), "no worker is left")


def run(
    engine: Engine, *words: str | Path, direct: bool = False, **given: object
) -> "subprocess.CompletedProcess[bytes]":
    env = engine.env() | ({"SAMPAN_DIRECT": "1"} if direct else {})
    given = {"env": env, "capture_output": True, **given}
    return subprocess.run(words, timeout=60, check=False, **given)  # type: ignore[call-overload,no-any-return]


def both(engine: Engine, *words: str | Path, **given: object) -> "subprocess.CompletedProcess[bytes]":
    """Run a command in a warm process and in its own: it must say the same, and end the same way."""
    warm = run(engine, *words, **given)  # type: ignore[arg-type]
    direct = run(engine, *words, direct=True, **given)
    assert (warm.returncode, warm.stdout, warm.stderr) == (direct.returncode, direct.stdout, direct.stderr)
    return warm


def test_what_it_says_and_how_it_ends_are_the_same(engine: Engine) -> None:
    assert both(engine, SAMPAN, "ps").returncode == 0
    assert both(engine, SAMPAN, "ps", "--format", "{{.ID").returncode != 0
    assert both(engine, SAMPAN, "inspect", "nothing").returncode == 1
    assert both(engine, SAMPAN, "ps", "--no-such-flag").returncode == 125
    assert both(engine, SAMPAN, "ps", "--help").stdout.startswith(b"Usage: sampan ps")
    assert both(engine, SAMPAN, "rm", os.fsdecode(b"\xff")).returncode == 1


def test_a_worker_runs_it(engine: Engine) -> None:
    with lasting(engine) as (client, worker):
        assert worker != client.pid
        assert Path(f"/proc/{worker}/cmdline").read_bytes() == b"sampan\0events\0"


def test_nothing_of_the_engine_s_is_in_a_worker(engine: Engine) -> None:
    with lasting(engine) as (_, worker):
        files = open_files(worker)
        assert not [name for name in files if str(engine.layout.run_root) in name or str(engine.log) in name]
        assert SECRET.encode() not in Path(f"/proc/{worker}/environ").read_bytes()
    assert b"OF_THE_ENGINE" not in run(engine, SAMPAN, "info").stdout


def test_its_surroundings_are_the_caller_s(engine: Engine, tmp_path: Path) -> None:
    def narrow() -> None:
        os.umask(0o027)
        os.nice(3)
        os.chdir(tmp_path)
        resource.setrlimit(resource.RLIMIT_NOFILE, (700, 701))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        Path("/proc/self/oom_score_adj").write_text("321")
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)

    with lasting(engine, preexec_fn=narrow) as (client, worker):
        for field in ("Umask", "Cpus_allowed_list", "Groups", "CapEff", "CapBnd", "Uid"):
            assert status(worker, field) == status(client.pid, field), field
        assert resource.prlimit(worker, resource.RLIMIT_NOFILE) == (700, 701)
        assert resource.prlimit(worker, resource.RLIMIT_CORE) == (0, 0)
        assert os.getpriority(os.PRIO_PROCESS, worker) == os.getpriority(os.PRIO_PROCESS, client.pid)
        assert Path(f"/proc/{worker}/oom_score_adj").read_text() == "321\n"
        assert os.readlink(f"/proc/{worker}/cwd") == str(tmp_path)
        assert int(status(worker, "SigIgn"), 16) >> (signal.SIGUSR2 - 1) & 1
        assert Path(f"/proc/{worker}/cgroup").read_text() == Path(f"/proc/{client.pid}/cgroup").read_text()


def test_a_command_counts_in_its_caller_s_control_group(engine: Engine) -> None:
    trees = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")]
    tree = next((path for path in trees if (path / "cgroup.procs").exists()), None)
    if tree is None:
        cannot_run("there is no unified hierarchy")
    group = tree / f"caller-{os.getpid()}"
    group.mkdir()
    try:
        with lasting(engine, preexec_fn=lambda: (group / "cgroup.procs").write_text("0")) as (_, worker):
            assert f"0::/{group.name}\n" in Path(f"/proc/{worker}/cgroup").read_text()
            parent = warm_parent(engine)
            assert f"/{group.name}" not in Path(f"/proc/{parent}/cgroup").read_text()
    finally:
        remove_group(group)


def test_the_caller_s_variables_and_directory_count(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "formats").mkdir()
    (tmp_path / "config.json").write_text('{"currentContext": "elsewhere"}')
    env = {name: value for name, value in engine.env().items() if name != "SAMPAN_RUN_ROOT"}
    words = (SAMPAN, "--run-root", engine.layout.run_root, "ps")
    assert both(engine, *words, env={**env, "DOCKER_CONTEXT": "nowhere"}).returncode == 1
    assert both(engine, *words, env={**env, "TZ": "Asia/Tokyo"}).returncode == 0
    saved = run(engine, SAMPAN, "save", "-o", "here.tar", "nothing", cwd=tmp_path)
    assert saved.returncode == 1
    assert not (tmp_path / "here.tar").exists()


def test_another_user_has_that_user_s_rights(engine: Engine) -> None:
    need("setpriv")
    group = (engine.layout.run_root / SOCKET).stat().st_gid
    user = (*("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}"), f"--groups={group}")
    if subprocess.run([*user, SAMPAN, "--version"], capture_output=True, check=False).returncode:
        cannot_run("other users may not read the checkout")
    with lasting(engine, *user) as (_, worker):
        assert status(worker, "Uid").split() == [str(NOBODY)] * 4
        assert status(worker, "Gid").split() == [str(NOBODY)] * 4
        assert status(worker, "Groups").split() == [str(group)]
        assert {int(status(worker, f"Cap{kind}"), 16) for kind in ("Eff", "Prm", "Inh", "Amb")} == {0}
        as_the_user = [*user, "cat", f"/proc/{worker}/environ"]
        assert subprocess.run(as_the_user, capture_output=True, check=False).returncode


def test_who_may_not_use_the_engine_gets_no_worker(engine: Engine) -> None:
    need("setpriv")
    stranger = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    program = "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    refused = run(engine, *stranger, "/usr/bin/python3", "-c", program, engine.layout.run_root / SOCKET)
    assert b"PermissionError" in refused.stderr
    if not subprocess.run([*stranger, SAMPAN, "--version"], capture_output=True, check=False).returncode:
        assert b"permission denied" in both(engine, *stranger, SAMPAN, "ps").stderr


@pytest.mark.parametrize(
    "changed",
    [
        ("setpriv", "--no-new-privs"),
        ("setpriv", "--bounding-set=-sys_boot"),
        ("unshare", "--uts"),
        ("unshare", "--mount"),
        ("unshare", "--net"),
        ("setpriv", f"--ruid={NOBODY}"),
        ("env", "PYTHONPATH=/nowhere"),
        ("env", "LD_BIND_NOW=1"),
    ],
    ids=" ".join,
)
def test_where_a_worker_would_be_allowed_something_else_the_command_runs_by_itself(
    engine: Engine, changed: tuple[str, ...]
) -> None:
    need(changed[0])
    client = subprocess.Popen([*changed, SAMPAN, "events"], env=engine.env(), stderr=subprocess.PIPE)
    try:
        eventually(lambda: _loads_grpc(client.pid), "it runs in its own process")
        assert not commands(engine)
    finally:
        client.terminate()
        client.communicate()


def _loads_grpc(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return "cygrpc" in Path(f"/proc/{pid}/maps").read_text()
    return False


def test_output_that_cannot_be_written(engine: Engine) -> None:
    with open("/dev/full", "wb") as full:
        refused = both(engine, SAMPAN, "ps", stdout=full, capture_output=False, stderr=subprocess.PIPE)
    assert refused.returncode == 1
    assert b"no space left" in refused.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_descriptors_that_are_closed(engine: Engine, closed: str) -> None:
    both(engine, "sh", "-c", f'exec "$0" ps {closed}', str(SAMPAN))


def test_a_pipe_that_closes_early(engine: Engine) -> None:
    told = 'for i in 1 2 3; do "$0" inspect --type=network bridge; done'
    # The reader is gone when that begins: whoever has told it something dies of it.
    script = f"set -o pipefail; {{ while (printf .); do :; done; {told}; }} | true; echo $?"
    both(engine, "bash", "-c", script, str(SAMPAN))
    for direct in (False, True):
        env = engine.env() | ({"SAMPAN_DIRECT": "1"} if direct else {})
        ours, theirs = os.pipe()
        os.close(ours)
        try:
            done = subprocess.run([SAMPAN, "ps"], env=env, stdout=theirs, stderr=subprocess.PIPE, check=False)
        finally:
            os.close(theirs)
        assert done.returncode == 128 + signal.SIGPIPE, direct
        assert done.stderr == b"", direct  # what was not written is not tried once more


def test_descriptors_beyond_the_standard_ones_are_the_command_s(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("=value\n")
    script = '"$0" create --env-file <(cat "$1") nothing 2>&1'
    told = both(engine, "bash", "-c", script, str(SAMPAN), str(tmp_path / "bad")).stdout
    assert b"no variable name" in told


def test_a_hundred_at_once(engine: Engine) -> None:
    clients = [
        subprocess.Popen([SAMPAN, "ps", "-q"], env=engine.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(100)
    ]
    for client in clients:
        assert client.communicate(timeout=100) == (b"", b"")
        assert client.returncode == 0


def test_who_connects_and_says_nothing_or_nonsense_holds_up_nobody(engine: Engine) -> None:
    with contextlib.ExitStack() as stack:
        for said in (b"", b"\xff\xff\xff\xff", b"\0\0\0\3abc", (1 << 20).to_bytes(4, "big") + b"x" * 1000):
            line = stack.enter_context(socket.socket(socket.AF_UNIX))
            line.settimeout(60)
            line.connect(str(engine.layout.run_root / SOCKET))
            assert line.recv(1) == GREETING
            line.sendall(said)
            if said[:2] == b"\0\0" or said[:1] == b"\xff":
                assert line.recv(1) == b""
        assert run(engine, SAMPAN, "ps").returncode == 0


def test_a_warm_parent_that_is_killed_is_replaced_and_its_commands_go_on(engine: Engine) -> None:
    with lasting(engine) as (client, worker):
        before = warm_parent(engine)
        assert before is not None
        os.kill(before, signal.SIGKILL)
        eventually(lambda: warm_parent(engine) != before, "it is gone")

        def replaced() -> bool:
            # Who comes before the supervisor knows of the end runs the command itself.
            assert run(engine, SAMPAN, "ps").returncode == 0
            return warm_parent(engine) not in (before, None)

        eventually(replaced, "there is another")
        assert status(worker, "State")
        client.terminate()
        client.communicate(timeout=60)
        assert client.returncode == 128 + signal.SIGTERM
        eventually(lambda: not status(worker, "State"), "the worker is gone")


def test_an_engine_that_is_started_anew_under_a_running_client(engine: Engine) -> None:
    with lasting(engine) as (client, worker):
        engine.stop()
        engine.start()  # at once: a client that follows waits a while for its engine
        assert client.poll() is None
        assert status(worker, "State")
        engine.sampan("network", "create", "later")
        assert client.stdout is not None
        assert b"later" in client.stdout.readline()  # it asks again when it has the engine back, from where it was
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=60)
        assert client.returncode == 128 + signal.SIGINT
        engine.sampan("network", "rm", "later")


def test_without_an_engine_a_command_runs_by_itself(engine: Engine) -> None:
    engine.stop()
    try:
        assert run(engine, SAMPAN, "ps").returncode == 1
    finally:
        engine.start()
