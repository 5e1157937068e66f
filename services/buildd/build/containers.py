"""The containers that the client of a build, or a frontend, has beside it; they go with the gateway that made them.

What they and steps may have is what the client grants its build.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from buildd.build.protocol import ContainerRequest
from buildd.executor.protocol import Container, ContainerProcess, Executor, Program
from buildd.llb.ops import ExecOp, NetMode, Process
from buildd.protocol import Output, Readable
from buildd.solver.build import Build
from sampan.build.request import NETWORK_HOST, SECURITY_INSECURE
from sampan.build.step import StepSecurity
from sampan.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    SampanError,
)

_MAX_CONTAINERS: Final = 100  # of one gateway
_ENTITLEMENTS: Final = (NETWORK_HOST, SECURITY_INSECURE)


@dataclass(slots=True)
class _Kept:
    """One container, entered and left by the task that keeps it."""

    made: "asyncio.Future[Container]"
    leave: asyncio.Event = field(default_factory=asyncio.Event)
    keeper: "asyncio.Task[None] | None" = None


class Containers:
    """Those of one gateway."""

    def __init__(self, executor: Executor, run: Build, entitlements: frozenset[str]) -> None:
        self._executor = executor
        self._run = run
        self._entitlements = entitlements
        self._kept: dict[str, _Kept] = {}

    async def new(self, request: ContainerRequest, inputs: Sequence[Output]) -> None:
        """Make a container.

        Raises:
            AlreadyExistsError: there is one of that ID.
            PermissionDeniedError: it would have what the client has not granted.
            SampanError: as ``Executor.container``.
        """
        if not request.id:
            raise InvalidArgumentError("a container needs an ID")
        if request.network is NetMode.HOST:
            self._check_granted(NETWORK_HOST)
        if request.id in self._kept:
            raise AlreadyExistsError(f"Container {request.id} already exists")
        if len(self._kept) >= _MAX_CONTAINERS:
            raise ResourceExhaustedError(f"a build has {_MAX_CONTAINERS} containers at most")
        process = Process(("container",), hostname=request.hostname, extra_hosts=request.hosts)
        op = ExecOp(process, request.mounts, request.network)
        kept = self._kept[request.id] = _Kept(asyncio.get_running_loop().create_future())
        kept.keeper = asyncio.create_task(self._keep(kept, op, inputs), name=f"container {request.id}")
        try:
            await asyncio.shield(kept.made)
        except BaseException:
            kept.leave.set()
            self._kept.pop(request.id, None)
            raise

    async def _keep(self, kept: _Kept, op: ExecOp, inputs: Sequence[Output]) -> None:
        context = self._run.beside()
        try:
            async with self._executor.container(op, inputs, context) as container:
                kept.made.set_result(container)
                await kept.leave.wait()
        except Exception as error:
            if kept.made.done():
                raise
            kept.made.set_exception(error)

    async def start(self, id: str, program: Program) -> ContainerProcess:
        """Make a process in a container.

        Raises:
            NotFoundError: no such container.
            PermissionDeniedError: it would have what the client has not granted.
        """
        container = self._get(id, f'container "{id}" previously released or not created')
        if program.security is StepSecurity.INSECURE:
            self._check_granted(SECURITY_INSECURE)
        return await container.start(program)

    def files(self, id: str, mount: int) -> Readable:
        """Return where the files of a container's mount are. NotFoundError: no such container or mount."""
        return self._get(id, f"container details for {id}@{mount} not found").files(mount)

    def _get(self, id: str, missing: str) -> Container:
        kept = self._kept.get(id)
        if kept is None or not kept.made.done() or kept.leave.is_set():
            raise NotFoundError(missing)
        return kept.made.result()

    def _check_granted(self, name: str) -> None:
        if name not in self._entitlements:
            raise PermissionDeniedError(f"{name} is not allowed")

    async def release(self, id: str) -> None:
        """End a container. NotFoundError: no such container."""
        kept = self._kept.pop(id, None)
        if kept is None:
            raise NotFoundError(f"container details for {id} not found")
        await _end({id: kept})

    async def close(self) -> None:
        """End all of them."""
        kept, self._kept = self._kept, {}
        await _end(kept)


async def _end(several: Mapping[str, _Kept]) -> None:
    keepers = []
    for kept in several.values():
        kept.leave.set()
        if kept.keeper is not None:
            keepers.append(kept.keeper)
    for result in await asyncio.gather(*keepers, return_exceptions=True):
        if isinstance(result, BaseException) and not isinstance(result, SampanError | asyncio.CancelledError):
            raise result


def granted(asked: Iterable[str], allowed: frozenset[str]) -> frozenset[str]:
    """Return what a client grants its build.

    Raises:
        InvalidArgumentError: an entitlement that is none.
        PermissionDeniedError: one that the builder's configuration does not allow.
    """
    found = set()
    for name in asked:
        if name not in _ENTITLEMENTS:
            raise InvalidArgumentError(f"unknown entitlement {name}")
        if name not in allowed:
            raise PermissionDeniedError(f"granting entitlement {name} is not allowed by build daemon configuration")
        found.add(name)
    return frozenset(found)
