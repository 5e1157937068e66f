import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildd.build.capabilities import LLB
from buildd.build.protocol import Graphs as GraphsProtocol
from buildd.llb.ops import ExecOp, Mount, Node, Process
from buildd.protocol import StepContext
from buildd.wire.llb.graphs import Graphs
from tests.contract.gateways import IMAGE, GatewayContract, GatewayParts, GraphsContract
from tests.fakes.buildd import Contents, failing
from tests.unit.buildd.build.building import Building
from tests.unit.buildd.solver.solving import bench


class TestGraphs(GraphsContract):
    @pytest.fixture
    def graphs(self) -> GraphsProtocol:
        return Graphs(LLB)


def graph(command: str) -> bytes:
    step = ExecOp(Process(("/bin/sh", "-c", command)), (Mount("/", input=0, output=0),))
    return Graphs(LLB).dump(Node(step, (IMAGE.output(),)).output())


async def makes(_files: Contents, _context: StepContext) -> Contents:
    return {"out/made": b"0123"}


class TestBuildGateway(GatewayContract):
    @pytest.fixture
    async def parts(self, tmp_path: Path) -> AsyncIterator[GatewayParts]:
        async with bench(tmp_path) as made:
            building = Building(made)
            made.executor.behaviours |= {"/bin/sh -c make": makes, "/bin/sh -c fail": failing}
            inputs = {"base": graph("make")}
            build = asyncio.create_task(building.builds.solve(building.request(frontend="", frontend_inputs=inputs)))
            yield GatewayParts(await building.builds.gateway("build"), inputs, graph("make"), graph("fail"))
            build.cancel()
            await asyncio.wait({build})
            await building.builds.close()
