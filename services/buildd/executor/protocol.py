"""Containers beside a build, as those see them who have processes run in one.

The first process is the container's init: the others run where that one runs, and end with it.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from buildd.llb.ops import SecretEnv
from sampan.build.step import StepOutput, StepSecurity, StepSignal
from sampan.resource.container_spec import ConsoleSize


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

        Raises:
            StartError: it cannot be started; the kinds of it say why.
        """
