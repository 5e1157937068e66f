"""Frontends that are images, and containers beside builds, with processes that only say their command."""

import asyncio

import pytest

from buildd.build.protocol import ContainerRequest, Gateway, GatewayRequest
from buildd.executor.protocol import Program
from buildd.llb.ops import Mount, NetMode
from sampan.build.step import StepSecurity
from sampan.errors import (
    AlreadyExistsError,
    BuildFailedError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RemoteError,
    UnimplementedError,
)
from tests.unit.buildd.build.building import BASE, Building
from tests.unit.buildd.build.test_builds import RUN, graph

MINE = {"source": "base", "own": "attribute"}


async def returns(gateway: Gateway) -> None:
    """A frontend that makes a result of a graph of its own."""
    made = await gateway.solve(GatewayRequest(graph()))
    gateway.give({"": made.refs[""].id}, {"said": b"by the frontend"})


async def test_a_frontend_s_image_runs_and_makes_the_result(building: Building) -> None:
    building.frontend = returns
    await building.builds.solve(building.request(frontend="gateway.v0", frontend_attributes=MINE))
    assert building.bench.executor.ran == [RUN]
    (container,) = building.bench.executor.containers
    (program,) = container.programs
    assert (program.args, program.stdin, container.left) == (("/run",), True, True)
    env = dict(entry.split("=", 1) for entry in program.env)
    assert [env["BUILDKIT_FRONTEND_OPT_0"], env["BUILDKIT_FRONTEND_OPT_1"]] == ["own=attribute", "source=base"]
    assert env["BUILDKIT_SESSION_ID"] == "session"
    assert env["BUILDKIT_EXPORTEDPRODUCT"] == "buildkit"
    assert '"id":"this-builder"' in env["BUILDKIT_WORKERS"]
    assert building.sources.asked[0].reference == BASE


async def test_a_syntax_directive_leads_there(building: Building) -> None:
    building.dockerfile("# syntax=base\nnot: a Dockerfile\n")
    building.frontend = returns
    await building.builds.solve(building.request())
    assert building.bench.executor.ran == [RUN]


async def test_an_error_of_a_frontend_goes_before_its_exit_code(building: Building) -> None:
    async def fails(gateway: Gateway) -> None:
        gateway.fail(RemoteError("too hot"))

    building.frontend = fails
    for code in (0, 1):
        building.bench.executor.container_code = code
        with pytest.raises(RemoteError, match="too hot"):
            await building.builds.solve(building.request(frontend="gateway.v0", frontend_attributes=MINE))


async def test_an_exit_code_goes_before_a_result_and_no_result_is_an_error(building: Building) -> None:
    request = building.request(frontend="gateway.v0", frontend_attributes=MINE)
    with pytest.raises(InvalidArgumentError, match="no result for incomplete build"):
        await building.builds.solve(request)
    building.frontend = returns
    building.bench.executor.container_code = 3
    with pytest.raises(BuildFailedError, match='process "/run" did not complete successfully: exit code: 3'):
        await building.builds.solve(request)


async def test_a_frontend_must_know_what_it_is_asked_for(building: Building) -> None:
    capable = {**MINE, "frontend.caps": "moby.buildkit.frontend.contexts+forward"}
    with pytest.raises(UnimplementedError, match=r"unsupported frontend capability moby\.buildkit\.frontend\.contexts"):
        await building.builds.solve(building.request(frontend="gateway.v0", frontend_attributes=capable))
    with pytest.raises(UnimplementedError, match=r"unsupported frontend capability moby\.buildkit\.frontend\.inputs"):
        await building.builds.solve(
            building.request(frontend="gateway.v0", frontend_attributes=MINE, frontend_inputs={"a": graph()})
        )
    with pytest.raises(InvalidArgumentError, match="no source specified for gateway"):
        await building.builds.solve(building.request(frontend="gateway.v0"))
    long = {**MINE, "name": "x" * (128 << 10)}
    with pytest.raises(InvalidArgumentError, match="'name' is too long"):
        await building.builds.solve(building.request(frontend="gateway.v0", frontend_attributes=long))


async def test_a_frontend_s_gateway_is_known_while_it_runs(building: Building) -> None:
    names: list[str] = []

    async def told(gateway: Gateway) -> None:
        names.extend(building.builds._frontends)
        await returns(gateway)

    building.frontend = told
    await building.builds.solve(building.request(frontend="gateway.v0", frontend_attributes=MINE))
    assert len(names) == 1
    assert names[0] not in building.builds._frontends


async def test_containers_are_made_of_results_and_go_with_the_build(building: Building) -> None:
    build = asyncio.create_task(building.builds.solve(building.request(frontend="")))
    gateway = await building.builds.gateway("build")
    made = await gateway.solve(GatewayRequest(graph()))
    wanted = ContainerRequest("one", (Mount("/", input=0),), (made.refs[""].id,), hostname="probe")
    await gateway.new_container(wanted)
    with pytest.raises(AlreadyExistsError, match="Container one already exists"):
        await gateway.new_container(wanted)
    await gateway.new_container(ContainerRequest("two", (Mount("/"),)))
    one, two = building.bench.executor.containers
    assert one.op.process.hostname == "probe"
    process = await gateway.start_process("one", Program(("ls",)))
    assert [output async for output in process.outputs()]
    await gateway.release_container("one")
    assert one.left
    with pytest.raises(NotFoundError, match='container "one" previously released or not created'):
        await gateway.start_process("one", Program(("ls",)))
    with pytest.raises(NotFoundError, match="container details for one not found"):
        await gateway.release_container("one")
    gateway.give({}, {})
    await build
    assert two.left


async def test_containers_have_no_more_than_the_client_grants(building: Building) -> None:
    build = asyncio.create_task(building.builds.solve(building.request(frontend="")))
    gateway = await building.builds.gateway("build")
    with pytest.raises(PermissionDeniedError, match=r"network\.host is not allowed"):
        await gateway.new_container(ContainerRequest("one", (Mount("/"),), network=NetMode.HOST))
    await gateway.new_container(ContainerRequest("one", (Mount("/"),)))
    with pytest.raises(PermissionDeniedError, match=r"security\.insecure is not allowed"):
        await gateway.start_process("one", Program(("ls",), security=StepSecurity.INSECURE))
    gateway.give({}, {})
    await build
