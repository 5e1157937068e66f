"""The git program, kept from everything that it does not need: configuration, hooks, prompts, local repositories.

Secrets travel in its environment, which nobody but root can read, and not on its command line.

Reference: git(1), "ENVIRONMENT VARIABLES"; git-config(1), ``protocol.allow``, ``http.extraHeader``.
"""

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sampan.errors import RemoteError, UnimplementedError

_DEADLINE_S: Final = 3600.0
_MAX_ANSWER_BYTES: Final = 8 << 20
_SHOWN: Final = 2000  # characters of what git complains about
_USER: Final = re.compile(r"://[^/@\s]*@")

# What git may be led to by a repository, its submodules among it.
_PROTOCOLS: Final = "git:http:https:ssh"


@dataclass(frozen=True, slots=True)
class Access:
    """How a repository is reached."""

    headers: Mapping[str, str] = field(default_factory=dict)  # "https://host/" to an Authorization header
    agent: Path | None = None  # the socket of an SSH agent
    known_hosts: Path | None = None


class Git:
    """Runs git."""

    def __init__(self, home: Path, access: Access, log: Callable[[bytes], None]) -> None:
        """``home`` is a directory of git's own; ``log`` takes what git says about its work."""
        self._home = home
        self._access = access
        self._log = log

    async def run(self, *arguments: str, directory: Path, shown: bool = True) -> str:
        """Run a command in ``directory`` and return its output; cancelled, it is killed.

        Raises:
            UnimplementedError: git is not installed.
            RemoteError: it fails; in its words.
        """
        program = shutil.which("git")
        if program is None:
            raise UnimplementedError(
                "git is not installed on this host, and a source needs it: install the package git"
            )
        command = [program, *_CONFIG, *arguments]
        # It ends with this process even if that is killed.
        if setpriv := shutil.which("setpriv"):
            command = [setpriv, "--pdeathsig", "KILL", *command]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=directory,
            env=self._environment(),
            start_new_session=True,
            umask=0o022,  # files of a checkout have the modes that a user's have
        )
        try:
            async with asyncio.timeout(_DEADLINE_S):
                assert process.stdout is not None
                assert process.stderr is not None
                output, complaints = await asyncio.gather(
                    _read(process.stdout, lambda _: None),
                    _read(process.stderr, self._log if shown else lambda _: None),
                )
                code = await process.wait()
        except TimeoutError:
            raise RemoteError(f"git {arguments[0]}: did not end within {_DEADLINE_S:.0f} seconds") from None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.shield(process.wait())
        if code:
            text = without_user(complaints.decode("utf-8", "replace").strip())[-_SHOWN:]
            raise RemoteError(f"git {arguments[0]}: {text or 'it failed'}: exit status {code}")
        return output.decode("utf-8", "surrogateescape")

    def _environment(self) -> dict[str, str]:
        ssh = ["ssh", "-F", "/dev/null", "-o", "BatchMode=yes"]
        if self._access.known_hosts is not None:
            ssh += ["-o", f"UserKnownHostsFile={self._access.known_hosts}", "-o", "StrictHostKeyChecking=yes"]
        else:
            ssh += ["-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._home),
            "LC_ALL": "C.UTF-8",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "GIT_ALLOW_PROTOCOL": _PROTOCOLS,
            "GIT_SSH_COMMAND": " ".join(ssh),
            "GIT_CONFIG_COUNT": str(len(self._access.headers)),
        }
        if self._access.agent is not None:
            environment["SSH_AUTH_SOCK"] = str(self._access.agent)
        for number, (url, header) in enumerate(self._access.headers.items()):
            environment[f"GIT_CONFIG_KEY_{number}"] = f"http.{url}.extraHeader"
            environment[f"GIT_CONFIG_VALUE_{number}"] = f"Authorization: {header}"
        for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
            for each in (name, name.upper()):
                if value := os.environ.get(each):
                    environment[each] = value
        return environment


_CONFIG: Final = (
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.fsmonitor=false"),
    *("-c", "protocol.version=2"),
    *("-c", "advice.detachedHead=false"),
    *("-c", "init.defaultBranch=main"),
    *("-c", "gc.auto=0"),
    *("-c", "credential.helper="),
)


async def _read(stream: asyncio.StreamReader, log: Callable[[bytes], None]) -> bytes:
    """Return what a stream has, the end of it if that is too much."""
    data = bytearray()
    while piece := await stream.read(1 << 16):
        log(piece)
        data += piece
        if len(data) > _MAX_ANSWER_BYTES:
            del data[: len(data) - _MAX_ANSWER_BYTES]
    return bytes(data)


def without_user(text: str) -> str:
    """Return a text without the names and passwords in its URLs."""
    return _USER.sub("://", text)
