"""A whole engine on roots of its own: started as users start it, and gone afterwards without a trace."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.json_types import JsonObject
from sampan.layout import Layout
from sampan.services import STARTED
from tests.support.docker_client import DockerClient, Result, answers, result_of
from tests.support.footprint import NOTHING, footprint
from tests.support.owned import RECORDS, owned, sweep_abandoned
from tests.support.tools import eventually, need, need_root, search_path

SAMPAN: Final = Path(__file__).parent.parent.parent / ".venv/bin/sampan"

_NO_PLUGINS: Final = 'plugin_socket_dir = "{}"\nplugin_spec_dirs = []\n'

# Those that run just now, whose logs say why a test failed.
RUNNING: Final[list["Engine"]] = []


@dataclass(slots=True)
class Engine:
    """An engine under a supervisor in the foreground."""

    layout: Layout
    config: Path  # <service>.toml, see SAMPAN_CONFIG_DIR
    log: Path
    process: subprocess.Popen[bytes] | None = None
    before: tuple[str, ...] = ()  # what its command line begins with: a network namespace to enter
    flags: tuple[str, ...] = ()  # of `sampan up`

    @property
    def host(self) -> str:
        """What DOCKER_HOST is set to."""
        return f"unix://{self.layout.docker_socket}"

    def env(self) -> dict[str, str]:
        """Environment for ``sampan`` itself."""
        own = {
            "SAMPAN_DATA_ROOT": str(self.layout.data_root),
            "SAMPAN_RUN_ROOT": str(self.layout.run_root),
            "SAMPAN_CONFIG_DIR": str(self.config),
            "PATH": search_path(),
        }
        return dict(os.environ) | own

    def start(self, *, damaged: bool = False) -> None:
        """Start it and wait until it answers; one that is damaged does not say much."""
        assert self.process is None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.before, SAMPAN, "up", *self.flags],
                env=self.env(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        what = "/_ping" if damaged else "/info"
        eventually(lambda: self._ready(what), f"the engine on {self.layout.run_root} is ready")

    def stop(self) -> None:
        """Stop its processes as a user does; containers go on."""
        if self.process is None:
            return
        self.process.terminate()
        code = self.process.wait(60)
        self.process = None
        assert code == 0, f"the supervisor ended with {code}\n{self.tail()}"

    def sampan(self, *arguments: str, input: str | None = None, timeout: float = 120) -> Result:
        """Run ``sampan`` against this engine; it must succeed."""
        result = self.sampan_fails(*arguments, input=input, timeout=timeout)
        assert result.code == 0, f"sampan {' '.join(arguments)}: {result.code}\n{result.stdout}{result.stderr}"
        return result

    def sampan_fails(self, *arguments: str, input: str | None = None, timeout: float = 120) -> Result:
        """Run ``sampan`` against this engine, whatever its exit code."""
        done = subprocess.run(
            [SAMPAN, *arguments],
            input=(input or "").encode(),
            capture_output=True,
            timeout=timeout,
            env=self.env(),
        )
        return result_of(done)

    def pid(self, service: str) -> int:
        """Return the pid that ``service`` has now. One that waits until somebody asks it for something is asked."""
        facts = self.facts(service)
        if facts.get("waits"):
            eventually(lambda: not self._ask(service).get("waits"), f"{service} is started")
            facts = self.facts(service)
        pid: int = facts["pid"]
        return pid

    def facts(self, service: str) -> JsonObject:
        """Return what the state file of ``service`` says."""
        facts: JsonObject = json.loads(self.layout.state_file(service).read_text())
        return facts

    def _ask(self, service: str) -> JsonObject:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(self.layout.socket(service)))
        return self.facts(service)

    def metrics_url(self, service: str) -> str:
        """Return where ``service`` is scraped."""
        return f"http://{self.facts(service)['metrics']}/metrics"

    def kill(self, service: str) -> None:
        """Kill ``service`` without a warning and return once its successor serves."""
        before = self.pid(service)
        os.kill(before, signal.SIGKILL)
        eventually(lambda: self._has_successor(service, before), f"{service} is back after SIGKILL")

    def tail(self, characters: int = 4000) -> str:
        """Return the end of what the services logged."""
        return self.log.read_text(errors="replace")[-characters:]

    def _ready(self, what: str) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the engine did not start\n{self.tail()}"
        return all(self.layout.state_file(name).exists() for name in STARTED) and answers(
            self.layout.docker_socket, what
        )

    def _has_successor(self, service: str, before: int) -> bool:
        try:
            return self.pid(service) != before and answers(self.layout.docker_socket)
        except (FileNotFoundError, json.JSONDecodeError):
            return False


@contextlib.contextmanager
def run_engine(
    configs: Mapping[str, str] | None = None,
    data_root: Path | None = None,
    before: Sequence[str] = (),
    flags: Sequence[str] = (),
    records: Path = RECORDS,
) -> Iterator[Engine]:
    """Run an engine; ``configs`` are the texts of its services' configuration files, by service.

    ``before`` is a command that runs it, such as one that enters a network namespace; ``flags`` are those of its start.
    Engines of tests that were killed, as ``records`` has them, are taken away before.

    When the block ends, all containers are removed and the engine is stopped. Then nothing of it may be left: no mount,
    no monitor, no interface, no control group, no half-written file.
    """
    need_root()
    need("conmon", "nft", "ip")
    sweep_abandoned(records)
    # Short, since a unix socket's path is at most 107 bytes: pytest's tmp_path is too long.
    root = Path(tempfile.mkdtemp(prefix="sp", dir="/tmp"))
    root.chmod(0o755)
    layout = Layout(data_root or root / "d", root / "r")
    engine = Engine(layout, root / "c", root / "log", before=tuple(before), flags=tuple(flags))
    engine.config.mkdir()
    # The machine's own plugins have a say in every volume.
    texts = {"runtimed": _NO_PLUGINS.format(root / "p"), **(configs or {})}
    for service, text in texts.items():
        (engine.config / f"{service}.toml").write_text(text)
    with owned(layout, root, records), _ended(engine):
        engine.start()
        yield engine
        if engine.process is None:
            engine.start()
        _remove_containers(engine)
        engine.stop()
        _nothing_left(engine)


def _remove_containers(engine: Engine) -> None:
    """Remove all, some of which may be about to go by themselves: then the engine says that they are gone, or going."""
    docker = DockerClient(engine.host, engine.config)
    said = ""

    def removed() -> bool:
        nonlocal said
        ids = docker("ps", "--all", "--quiet").lines
        said = docker.fails("rm", "--force", "--volumes", *ids).stderr if ids else ""
        return not ids

    try:
        eventually(removed, "all containers are removed")
    except AssertionError as error:
        raise AssertionError(f"{error}: {said}") from None


def _nothing_left(engine: Engine) -> None:
    """See that nothing is left of it, once the kernel has put away what it was the last to use."""
    try:
        eventually(lambda: footprint(engine.layout) == NOTHING, "nothing is left")
    except AssertionError:
        left = footprint(engine.layout)
        raise AssertionError(f"the engine left something behind: {left}\n{engine.tail()}") from None


@contextlib.contextmanager
def _ended(engine: Engine) -> Iterator[None]:
    """End its supervisor after the block, whatever state a failure has left it in."""
    RUNNING.append(engine)
    try:
        yield
    finally:
        RUNNING.remove(engine)
        if engine.process is not None:
            engine.process.terminate()
            try:
                engine.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(engine.process.pid, signal.SIGKILL)
                engine.process.wait()
