import asyncio
import json
from typing import Any

import pytest

from buildd.build.protocol import ContainerRequest, GatewayRequest, LocatedError
from buildd.llb.ops import ExecOp as Exec
from buildd.llb.ops import Metadata, Mount, Node, Process, SourceOp
from buildd.protocol import Output, Remains, StepContext, Tree
from buildd.wire.llb.graphs import Graphs
from sampan.build.progress import BuildWarning, Vertex, VertexWarning
from sampan.build.request import CacheOption, Export
from sampan.errors import (
    AlreadyExistsError,
    ConflictError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    RemoteError,
    UnimplementedError,
)
from sampan.oci.digest import Digest
from tests.fakes.buildd import Contents, Gate, failing
from tests.unit.buildd.build.building import Building, names

RUN = "/bin/sh -c make"


def graph(command: str = "make") -> bytes:
    image = Node(SourceOp("docker-image://base"), metadata=Metadata("base"))
    step = Exec(Process(("/bin/sh", "-c", command)), (Mount("/", input=0, output=0),))
    return Graphs(frozenset()).dump(Node(step, (image.output(),), metadata=Metadata("make it")).output())


async def test_a_dockerfile_becomes_a_result_that_is_exported(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\nENV A=b\n")
    export = Export("image", {"name": "app"}, "0")
    response = await building.builds.solve(building.request(exports=(export,)))
    assert response.exporter_response == {"image.name": "app"}
    ((_, built),) = building.exporters.exported
    tree = built.outputs[""]
    assert isinstance(tree, Tree)
    assert building.bench.world.files(tree)[f"out/{RUN}"] == RUN.encode()
    assert json.loads(built.metadata["containerimage.config"])["config"]["Env"][-1] == "A=b"


async def test_status_tells_a_build_from_its_beginning_to_its_end_whenever_it_is_asked_for(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    early = asyncio.create_task(building.told())  # before the build begins
    await asyncio.sleep(0)
    gate = Gate({"made": b""})
    building.bench.executor.behaviours[RUN] = gate
    build = asyncio.create_task(building.builds.solve(building.request()))
    await gate.running.wait()
    in_between = asyncio.create_task(building.told())
    await asyncio.sleep(0)
    gate.go.set()
    await build
    first, second, late = await early, await in_between, await building.told()
    assert first == second == late
    assert names(first)[:2] == [
        "[internal] load build definition from Dockerfile",
        "[internal] load metadata for " + "docker.io/library/base:latest",
    ]
    assert [update.name for update in first if isinstance(update, Vertex) and update.completed_ns][
        -1
    ] == "[2/2] RUN make"


async def test_the_status_of_a_build_that_never_begins_is_not_found(
    building: Building, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buildd.build.builds._BEGIN_S", 0.01)
    with pytest.raises(NotFoundError, match="no such job nothing"):
        await building.told("nothing")
    with pytest.raises(NotFoundError, match="no such job nothing"):
        await building.builds.gateway("nothing")


async def test_a_step_that_fails_is_located_in_the_dockerfile(building: Building) -> None:
    building.dockerfile("FROM base\n\nRUN make \\\n  it\n")
    building.bench.executor.behaviours["/bin/sh -c make   it"] = failing
    with pytest.raises(LocatedError, match="did not complete successfully: exit code: 7") as raised:
        await building.builds.solve(building.request())
    error = raised.value
    assert error.source is not None
    assert (error.source.name, error.lines) == ("Dockerfile", ((3, 4),))
    assert error.source.data.startswith(b"FROM base")
    failed = [update for update in await building.told() if isinstance(update, Vertex) and update.error]
    assert [update.digest for update in failed] == [error.vertex]


async def test_a_dockerfile_that_cannot_be_built_is_located(building: Building) -> None:
    building.dockerfile("FROM base\nFRUIT apple\n")
    with pytest.raises(LocatedError, match="unknown instruction: FRUIT") as raised:
        await building.builds.solve(building.request())
    assert raised.value.lines == ((2, 2),)


async def test_an_image_that_is_not_there_is_located_where_it_is_named(building: Building) -> None:
    building.dockerfile("FROM nowhere\n")
    with pytest.raises(LocatedError, match="nowhere:latest: not found") as raised:
        await building.builds.solve(building.request())
    assert raised.value.lines == ((1, 1),)


async def test_warnings_come_with_the_dockerfile_and_its_step(building: Building) -> None:
    building.dockerfile("from base\nRUN make\n")
    await building.builds.solve(building.request())
    told = await building.told()
    (warning,) = [update for update in told if isinstance(update, VertexWarning)]
    definition = next(u for u in told if isinstance(u, Vertex) and "load build definition" in u.name)
    assert (warning.vertex, warning.file_name) == (definition.digest, "Dockerfile")
    assert warning.file_data == b"from base\nRUN make\n"


async def test_a_definition_is_built_without_a_frontend(building: Building) -> None:
    await building.builds.solve(building.request(frontend="", definition=graph()))
    assert building.bench.executor.ran == [RUN]
    assert names(await building.told()) == ["base", "make it"]


async def test_a_client_drives_its_build_until_it_returns(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n", readme=b"read me")
    export = Export("image", {"name": "app"}, "0")
    build = asyncio.create_task(building.builds.solve(building.request(frontend="", exports=(export,))))
    gateway = await building.builds.gateway("build")
    result = await gateway.solve(GatewayRequest(frontend="dockerfile.v0"))
    assert building.bench.executor.ran == []  # nobody has asked for files
    ref = result.refs[""]
    assert await gateway.read_file(ref.id, f"out/{RUN}", 1, 3) == b"bin"
    assert building.bench.executor.ran == [RUN]
    gateway.give({"": ref.id}, {**result.metadata, "mine": b"1"})
    assert (await build).exporter_response == {"image.name": "app"}
    assert building.exporters.exported[0][1].metadata["mine"] == b"1"
    with pytest.raises(ConflictError):
        gateway.give({"": ref.id}, {})
    with pytest.raises(NotFoundError):
        await building.builds.gateway("build")


async def test_the_graph_of_a_result_is_one_that_another_build_takes(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    build = asyncio.create_task(building.builds.solve(building.request(frontend="")))
    gateway = await building.builds.gateway("build")
    ref = (await gateway.solve(GatewayRequest(frontend="dockerfile.v0", evaluate=True))).refs[""]
    gateway.give({"": ref.id}, {})
    await build
    await building.builds.solve(building.request("second", frontend="", definition=ref.definition))
    assert building.bench.executor.ran == [RUN]
    digests = {u.digest for u in await building.told() if isinstance(u, Vertex) and u.name.startswith("[")}
    assert {u.digest for u in await building.told("second") if isinstance(u, Vertex)} <= digests


async def test_what_a_client_ends_its_build_with_is_the_build_s_error(building: Building) -> None:
    build = asyncio.create_task(building.builds.solve(building.request(frontend="")))
    gateway = await building.builds.gateway("build")
    gateway.fail(RemoteError("enough"))
    with pytest.raises(RemoteError, match="enough"):
        await build


async def test_what_a_step_that_failed_has_left_can_be_looked_at(building: Building) -> None:
    bench, let_go = building.bench, asyncio.Event()

    async def fail(_: Contents, context: StepContext) -> Contents:
        async def left() -> Output:
            return bench.world.tree({"half": b"made"})

        async def release() -> None:
            let_go.set()

        await context.leave_behind([Remains(bench.sources.images["docker-image://base"], left)], release)
        return await failing(_, context)

    bench.executor.behaviours[RUN] = fail
    build = asyncio.create_task(building.builds.solve(building.request(frontend="", exports=())))
    gateway = await building.builds.gateway("build")
    ref = (await gateway.solve(GatewayRequest(definition=graph()))).refs[""]
    steps = []
    for _ in range(2):  # who asks again is told the same
        with pytest.raises(LocatedError) as caught:
            await gateway.evaluate(ref.id)
        steps.append(caught.value.step)
    assert steps[0] == steps[1]
    step = steps[0]
    assert step is not None
    assert Digest.of(step.operation) == caught.value.vertex
    mount = Mount("/", input=0)
    for number, (ids, name) in enumerate(((step.before, "bin/sh"), (step.after, "half"))):
        assert len(ids) == 1
        await gateway.new_container(ContainerRequest(str(number), (mount,), ids))
        assert await gateway.read_container_file(str(number), 0, name, 0, 0)
    assert not let_go.is_set()
    gateway.fail(RemoteError("enough"))
    with pytest.raises(RemoteError):
        await build
    assert let_go.is_set()


async def test_refs_that_nobody_has_made_are_not_found(building: Building) -> None:
    build = asyncio.create_task(building.builds.solve(building.request(frontend="")))
    gateway = await building.builds.gateway("build")
    with pytest.raises(NotFoundError, match="no such ref: 'x'"):
        await gateway.evaluate("x")
    with pytest.raises(NotFoundError, match="no such ref: 'x'"):
        gateway.give({"": "x"}, {})
    gateway.give({"": ""}, {})
    await build


async def test_a_warning_of_a_client_is_shown(building: Building) -> None:
    build = asyncio.create_task(building.builds.solve(building.request(frontend="")))
    gateway = await building.builds.gateway("build")
    said = VertexWarning(Digest.of(b""), BuildWarning("R", "R: m"), 2)
    await gateway.warn(said.vertex, said.warning, None, 2)
    gateway.give({}, {})
    await build
    assert await building.told() == [said]


async def test_a_client_that_goes_away_cancels_its_build(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    gate = Gate({})
    building.bench.executor.behaviours[RUN] = gate
    build = asyncio.create_task(building.builds.solve(building.request()))
    await gate.running.wait()
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    assert building.bench.executor.cancelled == [RUN]
    assert building.builds.running == 0
    last = [u for u in await building.told() if isinstance(u, Vertex) and u.name == "[2/2] RUN make"][-1]
    assert last.error == "context canceled"


async def test_a_ref_that_builds_is_not_built_twice_at_once(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    gate = Gate({})
    building.bench.executor.behaviours[RUN] = gate
    build = asyncio.create_task(building.builds.solve(building.request()))
    await gate.running.wait()
    with pytest.raises(AlreadyExistsError, match="job ID build exists"):
        await building.builds.solve(building.request())
    gate.go.set()
    await build


async def test_an_export_that_cannot_be_is_refused_before_anything_is_built(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    with pytest.raises(InvalidArgumentError, match="unknown exporter"):
        await building.builds.solve(building.request(exports=(Export("tape"),)))
    assert building.sources.asked == []
    assert await building.told() == []  # and nobody waits for more


async def test_entitlements_are_granted_only_where_the_configuration_lets_them(building: Building) -> None:
    building.dockerfile("FROM base\nRUN --network=host make\n")
    with pytest.raises(LocatedError, match=r"network\.host is not allowed") as raised:
        await building.builds.solve(building.request())
    assert list(raised.value.lines) == [(2, 2)]
    await building.builds.solve(building.request("granted", entitlements=frozenset(("network.host",))))
    with pytest.raises(PermissionDeniedError, match=r"granting entitlement security\.insecure is not allowed"):
        await building.builds.solve(building.request(entitlements=frozenset(("security.insecure",))))
    with pytest.raises(InvalidArgumentError, match="unknown entitlement levitate"):
        await building.builds.solve(building.request(entitlements=frozenset(("levitate",))))


async def test_images_of_the_dockerfile_frontend_are_served_by_the_built_in_one(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    attributes = {"source": "docker/dockerfile:1.7"}
    await building.builds.solve(building.request(frontend="gateway.v0", frontend_attributes=attributes))
    assert building.bench.executor.ran == [RUN]
    with pytest.raises(InvalidArgumentError, match=r"invalid frontend: elm\.v0"):
        await building.builds.solve(building.request(frontend="elm.v0"))


async def test_a_subrequest_s_answer_is_in_its_metadata(building: Building) -> None:
    building.dockerfile("FROM base AS app\n")
    build = asyncio.create_task(building.builds.solve(building.request(frontend="")))
    gateway = await building.builds.gateway("build")
    asked = GatewayRequest(frontend="dockerfile.v0", frontend_attributes={"requestid": "frontend.targets"})
    result = await gateway.solve(asked)
    assert result.refs == {}
    assert json.loads(result.metadata["result.json"])["targets"][0]["name"] == "app"
    gateway.give({}, {})
    await build


async def test_inputs_take_the_place_of_directories(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    given = {"context": graph("other")}
    await building.builds.solve(building.request(frontend_inputs=given, frontend_attributes={"contextkey": "context"}))
    build = asyncio.create_task(building.builds.solve(building.request("second", frontend="", frontend_inputs=given)))
    gateway = await building.builds.gateway("second")
    assert gateway.inputs() == given
    gateway.give({}, {})
    await build


async def test_an_image_is_looked_up_once_for_a_build(building: Building) -> None:
    building.dockerfile("FROM base AS one\nFROM base AS two\nCOPY --from=one /bin/sh /sh\n")
    await building.builds.solve(building.request())
    assert len(building.sources.asked) == 1


async def test_caches_are_imported_once_each_and_those_that_are_gone_are_done_without(
    building: Building,
) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    imports = (CacheOption("registry", {"ref": "here"}), CacheOption("registry", {"ref": "gone"}))
    said = json.dumps([{"Type": "registry", "Attrs": {"ref": "here"}}, {"Type": "registry", "Attrs": {"ref": "more"}}])
    await building.builds.solve(
        building.request(cache_imports=imports, frontend_attributes={"cache-imports": said, "cache-from": "old"})
    )
    assert [option.attributes["ref"] for option in building.caches.loaded] == ["here", "gone", "old", "more"]
    told = await building.told()
    failed = {update.name: update.error for update in told if isinstance(update, Vertex) and update.completed_ns}
    assert failed["importing cache manifest from gone"] == "gone: not found"
    assert failed["importing cache manifest from here"] == ""


async def test_what_a_build_came_to_fills_caches_and_another_builder_need_not_run_it(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    to = CacheOption("registry", {"ref": "here", "mode": "max"})
    response = await building.builds.solve(building.request(cache_exports=(to,)))
    assert response.exporter_response == {"cache.manifest": "{}"}
    ((_, building.caches.results),) = building.caches.filled
    await building.bench.results.remove([record.id for record in await building.bench.results.records()])
    building.bench.executor.ran.clear()
    await building.builds.solve(building.request("second", cache_imports=(CacheOption("registry", {"ref": "here"}),)))
    assert building.bench.executor.ran == []


async def test_a_cache_that_cannot_be_filled_fails_a_build_unless_that_is_to_be_ignored(building: Building) -> None:
    building.dockerfile("FROM base\nRUN make\n")
    with pytest.raises(NotFoundError, match="gone: not found"):
        await building.builds.solve(building.request(cache_exports=(CacheOption("registry", {"ref": "gone"}),)))
    ignored = CacheOption("registry", {"ref": "gone", "ignore-error": "true"})
    await building.builds.solve(building.request("second", cache_exports=(ignored,)))


@pytest.mark.parametrize(
    "more",
    [
        {"cache_imports": (CacheOption("gha"),)},
        {"frontend_attributes": {"cache-imports": '[{"Type":"gha"}]'}},
    ],
)
async def test_kinds_of_caches_that_there_are_none_for_are_done_without(
    building: Building, more: dict[str, Any]
) -> None:
    building.dockerfile("FROM base\n")
    await building.builds.solve(building.request(**more))
    (name,) = {update.name for update in await building.told() if isinstance(update, Vertex) and update.error}
    assert name.startswith("importing cache manifest from gha:")


async def test_kinds_of_caches_that_there_are_none_for_are_not_filled(building: Building) -> None:
    building.dockerfile("FROM base\n")
    with pytest.raises(UnimplementedError, match="cache export of type gha is not supported"):
        await building.builds.solve(building.request(cache_exports=(CacheOption("gha"),)))
