"""The real ``docker`` program, pointed at one engine, with a configuration directory of its own."""

import http.client
import os
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.tools import need


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def line(self) -> str:
        """Its output, when that is one line."""
        return self.stdout.strip()

    @property
    def lines(self) -> list[str]:
        """Its output, line by line."""
        return self.stdout.splitlines()


def result_of(done: subprocess.CompletedProcess[bytes]) -> Result:
    """Return it as text, with the ends of lines as they came."""
    return Result(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


@dataclass(frozen=True, slots=True)
class DockerClient:
    """Calls of ``docker`` against the engine at ``host``."""

    host: str  # what DOCKER_HOST is set to
    config: Path  # what DOCKER_CONFIG is set to
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, input: str | None = None, timeout: float = 120) -> Result:
        """Run ``docker`` with ``arguments``; it must succeed."""
        result = self.fails(*arguments, input=input, timeout=timeout)
        assert result.code == 0, f"docker {' '.join(arguments)}: {result.code}\n{result.stdout}{result.stderr}"
        return result

    def fails(self, *arguments: str, input: str | None = None, timeout: float = 120) -> Result:
        """Run ``docker`` with ``arguments``, whatever its exit code."""
        need("docker")
        done = subprocess.run(
            ["docker", *arguments],
            input=(input or "").encode(),
            capture_output=True,
            timeout=timeout,
            env=self.env(),
        )
        return result_of(done)

    def start(self, *arguments: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Start ``docker`` and return at once; the caller ends it."""
        need("docker")
        pipe = subprocess.PIPE
        return subprocess.Popen(["docker", *arguments], stdin=stdin, stdout=pipe, stderr=pipe, env=self.env())

    def env(self) -> dict[str, str]:
        """Environment for a program that is to talk to this engine."""
        own = {"DOCKER_HOST": self.host, "DOCKER_CONFIG": str(self.config), "DOCKER_CLI_HINTS": "false"}
        own["DOCKER_BUILDKIT"] = "0"  # Debian's client would build with BuildKit, others need buildx for that
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("DOCKER_")}
        return inherited | own | dict(self.environment)


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket: for what the client and the SDK do not show."""

    def __init__(self, path: Path | str, timeout: float = 120) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def answers(path: Path, what: str = "/info") -> bool:
    """Whether an engine answers at the socket ``path``, with all that it is made of: ``/_ping`` needs less."""
    connection = UnixConnection(path, timeout=30)
    try:
        connection.request("GET", what)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
