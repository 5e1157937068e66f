"""Call an OCI runtime (crun, runc, …) for what conmon does not do."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from runtimed.cgroups.units import change_command
from runtimed.conmon.conmon import RuntimeCommand
from runtimed.conmon.process import Completed, run, runtime_environ
from runtimed.conmon.running import last_error
from sampan.errors import ConflictError, StartError

_TIMEOUT_S: Final = 60.0

CALL_LOG: Final = "call.log"  # in a bundle: what the runtime said


class OciRuntime:
    """One runtime, by the command that starts it."""

    def __init__(self, name: str, command: RuntimeCommand, environ: Mapping[str, str]) -> None:
        self.name = name
        self.command = command
        self._environ = environ

    async def start(self, id: str, bundle: Path) -> None:
        """Let a created container run.

        Raises:
            StartError: with the runtime's message.
        """
        done = await self._run(bundle, "start", id)
        if done.code:
            raise StartError(_message(done, bundle))

    async def delete(self, id: str, bundle: Path) -> None:
        """Kill what is left of the container and forget it; no error if the runtime knows none."""
        done = await self._again_if_killed(bundle, "delete", "--force", id)
        if done.code and "does not exist" not in (message := _message(done, bundle)):
            raise ConflictError(f"{self.name} cannot delete container {id}: {message}")

    async def pause(self, id: str, bundle: Path) -> None:
        """Freeze it; no error if it is frozen. Raises ConflictError."""
        await self._bring_to("paused", bundle, "pause", id)

    async def resume(self, id: str, bundle: Path) -> None:
        """Thaw it; no error if it is not frozen. Raises ConflictError."""
        await self._bring_to("running", bundle, "resume", id)

    async def _bring_to(self, status: str, bundle: Path, *arguments: str) -> None:
        try:
            await self._must(bundle, *arguments)
        except ConflictError:
            if await self._status(bundle, arguments[-1]) != status:
                raise

    async def _status(self, bundle: Path, id: str) -> str:
        """Return what the runtime says of a container's state, empty if it says nothing."""
        done = await self._run(bundle, "state", id)
        try:
            return str(json.loads(done.stdout)["status"])
        except (ValueError, KeyError, TypeError):
            return ""

    async def update(self, id: str, bundle: Path, resources: Mapping[str, object], scope: str = "") -> None:
        """Change its limits to ``resources``, OCI's ``linux.resources``; of a ``scope``, have systemd know them, too.

        Raises:
            ConflictError: the runtime or systemd refuses.
        """
        document = bundle / "resources.json"
        document.write_text(json.dumps(resources))
        await self._must(bundle, "update", "--resources", str(document), id)
        if scope and (command := change_command(scope, resources)):
            try:
                done = await run(command, runtime_environ(self._environ), _TIMEOUT_S)
            except OSError as error:
                raise ConflictError(f"systemd is not told of the limits: {command[0]}: {error.strerror}") from error
            if done.code:
                said = done.stderr.decode(errors="replace").strip()
                raise ConflictError(f"systemd does not take the limits of {scope}: {said}")

    async def _must(self, bundle: Path, *arguments: str) -> None:
        done = await self._again_if_killed(bundle, *arguments)
        if done.code:
            raise ConflictError(f"{self.name} cannot {arguments[0]} the container: {_message(done, bundle)}")

    async def _again_if_killed(self, bundle: Path, *arguments: str) -> Completed:
        """Call it for what may be repeated: whoever killed the program, as the kernel does out of memory, did not mean
        the container."""
        done = await self._run(bundle, *arguments)
        return done if done.code >= 0 else await self._run(bundle, *arguments)

    async def _run(self, bundle: Path, *arguments: str) -> Completed:
        argv = (str(self.command.path), *self.command.arguments(bundle / CALL_LOG), *arguments)
        return await run(argv, runtime_environ(self._environ), _TIMEOUT_S)


def _message(done: Completed, bundle: Path) -> str:
    """Return the last error in the runtime's log, or what it wrote to stderr."""
    return last_error(bundle / CALL_LOG) or done.stderr.decode(errors="replace").strip() or f"exit code {done.code}"
