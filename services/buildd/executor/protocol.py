"""What runs processes: those of steps, and those of containers beside a build, as who has them run sees them.

The first process is the container's init: the others run where that one runs, and end with it.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from buildd.llb.ops import NO_LIMITS, ExecOp, SecretEnv
from buildd.protocol import Output, Readable, StepContext, Tree
from sampan.build.step import StepOutput, StepSecurity, StepSignal
from sampan.oci.platform import Platform
from sampan.resource.container_spec import ConsoleSize, Resources


@dataclass(frozen=True, slots=True)
class Program:
    """A process of a container beside a build."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()  # "NAME=value"
    cwd: str = ""
    user: str = ""
    tty: bool = False
    stdin: bool = False
    security: StepSecurity = StepSecurity.CONFINED
    secret_env: tuple[SecretEnv, ...] = ()


# What a process is given; no bytes: the end of its stdin.
ContainerInput: TypeAlias = bytes | ConsoleSize | StepSignal


class ContainerProcess(Protocol):
    """A process of a container."""

    async def give(self, item: ContainerInput) -> None:
        """Give it something; returns when it may be given more."""

    def outputs(self) -> AsyncGenerator[StepOutput, None]:
        """Run it, and yield what comes of it; left early, it is killed. To be called once.

        That the command is no program, the OCI runtime says on stderr: the exit code is 1, of a further process 255.

        Raises:
            StartError: it cannot be made ready to be started.
        """


class Container(Protocol):
    """Where processes run: the first is its init, the others end with that one."""

    async def start(self, program: Program) -> ContainerProcess:
        """Make a process.

        Raises:
            NotFoundError: a secret of its environment is not there.
            ConflictError: the container was released, or its first process has ended.
        """

    def files(self, mount: int) -> Readable:
        """Return where the files of a mount are, by its number in the operation, while the container is there.

        Raises:
            NotFoundError: there is no such mount, or it has no files that can be read beside the container.
        """


class Executor(Protocol):
    """Runs processes."""

    async def run(
        self,
        op: ExecOp,
        inputs: Sequence[Output],
        platform: Platform | None,
        context: StepContext,
        limits: Resources = NO_LIMITS,
        network_mode: str = "",
    ) -> Sequence[Tree]:
        """Run a step's process to its end and return a tree for each output.

        ``network_mode`` is a container's, instead of the network that ``op`` names.

        Raises:
            ProcessError: it has failed.
            NotFoundError: a secret, an agent or a path that it mounts is not there.
            UnimplementedError: a device.
        """

    def container(
        self, op: ExecOp, inputs: Sequence[Output], context: StepContext
    ) -> AbstractAsyncContextManager[Container]:
        """Yield a container that sees what a step of ``op`` would; its own process is not run, and nothing is kept.

        Raises as ``run``, but for ProcessError.
        """
