"""The ways in which clients speak to an engine, and what comes back: plain HTTP, the SDK, docker, sampan."""

import enum
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import docker
import docker.errors
import requests

from tests.support.docker_client import DockerClient, UnixConnection
from tests.support.engine import SAMPAN, Engine

# Longer than anything takes that goes well, on a machine that does much else besides.
DEADLINE_S: Final = 180.0

# How programs say that the engine, or the line to it, went away under them.
_LINE_LOST: Final = (
    "Cannot connect to the Docker daemon",
    "Cannot connect to the Sampan engine",
    "error during connect",
    "the connection to the engine is lost",
    "connection reset",
    "connection refused",
    "broken pipe",
    "unexpected EOF",
    ": EOF",
    "went away",
    "does not answer",
    "no engine answers",
    "the engine was stopped while",
    "received 503",
    "is stopping; the process goes on",
    "restarted: its exit code is lost",
)

_SYSTEM_ERROR: Final = 3  # the kind of frame that carries the daemon's own word: moby's stdcopy


class Kind(enum.Enum):
    """How an operation ended."""

    DONE = "done"
    REFUSED = "refused"  # a definite no
    BROKEN = "broken"  # no answer, or that a part of the engine is away


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. ``code`` is an HTTP status, or a program's exit code."""

    kind: Kind
    code: int = 0
    output: bytes = b""
    error: str = ""
    client_killed: bool = False

    @property
    def text(self) -> str:
        """Its output as text."""
        return self.output.decode(errors="replace")

    def json(self) -> Any:
        """Its output as JSON."""
        return json.loads(self.output)

    def __str__(self) -> str:
        return f"{self.kind.value} {self.code} {self.output[:200]!r} {self.error[:300]!r}"


class Ways:
    """All ways to one engine. One object serves all threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._cli = DockerClient(engine.host, engine.config)
        self._lock = threading.Lock()
        self._programs: dict[int, subprocess.Popen[bytes]] = {}
        self._killed: set[int] = set()
        self.sdk: Final = Sdk(engine.host)

    def http(
        self, method: str, path: str, query: Mapping[str, object] | None = None, body: object = None, raw: bytes = b""
    ) -> Answer:
        """Send one request and read all of the answer."""
        connection = UnixConnection(self._engine.layout.docker_socket, timeout=DEADLINE_S)
        target = f"/v1.47{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Content-Type": "application/x-tar" if raw else "application/json"}
        try:
            connection.request(method, target, raw or (None if body is None else json.dumps(body)), headers)
            response = connection.getresponse()
            return _of_http(response.status, response.read())
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            return Answer(Kind.BROKEN, error=repr(error))
        finally:
            connection.close()

    def docker(self, *arguments: str, input: bytes = b"") -> Answer:
        """Run docker."""
        return self._run(["docker", *arguments], self._cli.env(), input)

    def sampan(self, *arguments: str, input: bytes = b"") -> Answer:
        """Run sampan."""
        return self._run([str(SAMPAN), *arguments], self._engine.env(), input)

    def buildkit(self, tag: str, context: bytes) -> Answer:
        """Build as a client of BuildKit that uploads its context."""
        program = [sys.executable, "-m", "tests.chaos.run.buildkit_client", str(self._engine.layout.docker_socket), tag]
        return self._run(program, {**os.environ, "PYTHONPATH": str(SAMPAN.parent.parent.parent)}, context)

    def kill_a_program(self, choose: int) -> bool:
        """SIGKILL one of the clients that run now; return whether there was one."""
        with self._lock:
            if not self._programs:
                return False
            program = self._programs[sorted(self._programs)[choose % len(self._programs)]]
            self._killed.add(program.pid)
            program.kill()  # it is not reaped yet: that takes the lock
            return True

    def _run(self, command: Sequence[str], environment: Mapping[str, str], input: bytes) -> Answer:
        pipe = subprocess.PIPE
        with self._lock:
            program = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=dict(environment))
            self._programs[program.pid] = program
        try:
            output, error = program.communicate(input, timeout=DEADLINE_S)
        except subprocess.TimeoutExpired as late:
            program.kill()
            program.communicate()
            raise TimeoutError(" ".join(command)) from late
        finally:
            with self._lock:
                del self._programs[program.pid]
                killed = program.pid in self._killed
                self._killed.discard(program.pid)
        return _of_program(program.returncode, output, error.decode(errors="replace"), killed=killed)


class Sdk:
    """Docker's Python SDK, its low-level client; exceptions become answers. A client for each thread."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._local = threading.local()

    def __call__(self, method: str, *arguments: object, **options: object) -> Answer:
        """Call ``method`` of ``docker.APIClient``; what it returns comes as JSON."""
        try:
            client = getattr(self._local, "client", None)
            if client is None:
                client = self._local.client = docker.APIClient(self._host, version="1.43", timeout=int(DEADLINE_S))
            returned = getattr(client, method)(*arguments, **options)
        except docker.errors.APIError as error:
            if error.response is None:
                return Answer(Kind.BROKEN, error=repr(error))
            return _of_http(error.response.status_code, str(error).encode())
        except requests.exceptions.ReadTimeout as error:
            raise TimeoutError(f"{method} {arguments}") from error
        except (requests.exceptions.RequestException, docker.errors.DockerException, OSError) as error:
            return Answer(Kind.BROKEN, error=repr(error))
        return Answer(Kind.DONE, output=json.dumps(returned).encode())


def demultiplex(stream: bytes) -> tuple[bytes, str]:
    """Return what frames carry for a process's output, and what the daemon says itself; a cut frame counts as far as
    it goes."""
    output, word = b"", ""
    while len(stream) >= 8:
        size = int.from_bytes(stream[4:8])
        piece = stream[8 : 8 + size]
        if stream[0] == _SYSTEM_ERROR:
            word += piece.decode(errors="replace")
        else:
            output += piece
        stream = stream[8 + size :]
    return output, word


def is_line_lost(text: str) -> bool:
    """Whether an error says that a part of the engine is away, or the line to it."""
    return any(words.lower() in text.lower() for words in _LINE_LOST)


def _of_http(status: int, body: bytes) -> Answer:
    if status < 400:
        return Answer(Kind.DONE, status, body)
    text = body.decode(errors="replace")
    return Answer(Kind.BROKEN if status == 503 else Kind.REFUSED, status, error=text)


def _of_program(code: int, output: bytes, error: str, *, killed: bool) -> Answer:
    if code == -signal.SIGKILL and killed:
        return Answer(Kind.BROKEN, code, output, error, client_killed=True)
    if code != 0 and is_line_lost(error):
        return Answer(Kind.BROKEN, code, output, error)
    return Answer(Kind.DONE if code == 0 else Kind.REFUSED, code, output, error)


def pids_below(root: Path) -> dict[int, list[str]]:
    """Return pid and command line of each process that names a file below ``root``."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue  # it has ended
            if any(f"{root}/" in word or word == str(root) for word in words):
                found[int(entry.name)] = words
    return found
