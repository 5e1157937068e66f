"""Containers of an owner, made on a runtimed and removed again."""

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

from sampan.client.runtime.containers import ContainersClient
from sampan.client.runtime.execs import ExecsClient
from sampan.resource.container import Condition, ContainerDetails
from sampan.resource.container_spec import ContainerSpec, LogConfig, Namespaces, Process
from tests.integration.runtimed.runtimed_process import Runtimed

PASSWD = "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000:me:/:/bin/sh\n"
GROUP = "root:x:0:\nme:x:1000:\nwheel:x:10:me\n"


def write_users(directory: Path) -> None:
    """Give the image of ``running(directory)`` a user with a group that adds to its own."""
    (directory / "busybox/etc/passwd").write_text(PASSWD)
    (directory / "busybox/etc/group").write_text(GROUP)


class Pods:
    """Makes containers of an owner, and removes them."""

    def __init__(self, runtimed: Runtimed, runtime: str, directory: Path) -> None:
        assert runtimed.channel is not None
        self.containers = ContainersClient(runtimed.channel)
        self.execs = ExecsClient(runtimed.channel)
        self.runtime = runtime
        self.log = directory / "0.log"
        self.made: list[str] = []

    async def create(self, *cmd: str, user: str = "", groups: tuple[str, ...] = (), **fields: Any) -> str:
        process = Process(cmd=cmd, env=("PATH=/bin",), user=user, additional_groups=groups, strict_groups=bool(groups))
        fields = (
            dict[str, Any](
                process=process, namespaces=Namespaces(network="none"), log=LogConfig("cri", {"path": str(self.log)})
            )
            | fields
        )
        spec = ContainerSpec(f"k8s_{len(self.made)}", chain_id="busybox", owner="cri", runtime=self.runtime, **fields)
        self.made.append((await self.containers.create(spec)).id)
        return self.made[-1]

    async def begin(self, *cmd: str, **fields: Any) -> ContainerDetails:
        made = await self.create(*cmd, **fields)
        await self.containers.start(made)
        return await self.containers.get(made)

    async def output(self, *cmd: str, **fields: Any) -> str:
        """Run a command to its end and return what it wrote, as kubelet reads it."""
        made = await self.create(*cmd, **fields)
        async with aclosing(self.containers.wait(made, Condition.NEXT_EXIT)) as answers:
            assert await anext(answers) is None
            await self.containers.start(made)
            assert await anext(answers) is not None
        return "".join(f"{line}\n" for line in self.written())

    def written(self) -> list[str]:
        """Return the lines that were logged, without what kubelet has before each."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line.split(" ", 3)[3] for line in lines if line.count(" ") >= 3]

    async def until(self, lines: int) -> list[str]:
        """Return the first so many lines when they have been logged."""
        async with asyncio.timeout(60):
            while len(self.written()) < lines:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return self.written()[:lines]

    async def clear(self) -> None:
        for made in self.made:
            await self.containers.remove(made, force=True)
