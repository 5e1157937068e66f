"""What ``buildd.build.protocol`` promises of the graphs of a build, and of the gateway that its client drives it by."""

from dataclasses import dataclass

import pytest

from buildd.build.protocol import ContainerRequest, Gateway, GatewayRequest, Graphs, LocatedError
from buildd.llb.ops import ExecOp, Metadata, Mount, Node, Process, SourceOp
from buildd.protocol import SourceFile
from sampan.build.progress import Position
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, RemoteError, SampanError
from sampan.oci.digest import Digest

FILE = SourceFile("Dockerfile", b"FROM base\nRUN make\n")
IMAGE = Node(SourceOp("docker-image://base"), metadata=Metadata("base"))
_SHELL = Process(("/bin/sh", "-c", "make"))
STEP = Node(
    ExecOp(_SHELL, (Mount("/", input=0, output=0),)),
    (IMAGE.output(),),
    metadata=Metadata("make it", positions=(Position(2, 2),)),
)


class GraphsContract:
    """Of ``Graphs``; subclass with a fixture ``graphs``, which knows no definition yet."""

    promises: tuple[type, ...] = (Graphs,)

    def test_what_is_dumped_is_loaded_again(self, graphs: Graphs) -> None:
        loaded = graphs.load(graphs.dump(STEP.output()))
        assert loaded is not None
        assert graphs.digest_of(loaded.node) == graphs.digest_of(STEP)
        assert graphs.load(graphs.dump(None)) is None

    def test_a_vertex_is_called_by_its_operation(self, graphs: Graphs) -> None:
        graphs.load(graphs.dump(STEP.output()))
        operation = graphs.operation_of(graphs.digest_of(STEP))
        assert operation is not None
        assert Digest.of(operation) == graphs.digest_of(STEP)
        assert graphs.operation_of(Digest.of(b"nothing")) is None

    def test_the_file_of_a_vertex_travels_with_it(self, graphs: Graphs) -> None:
        graphs.load(graphs.dump(STEP.output(), FILE))
        assert graphs.source_of(graphs.digest_of(STEP)) == FILE
        assert graphs.source_of(Digest.of(b"nothing")) is None

    def test_what_a_source_is_replaced_by_is_said_by_who_loads(self, graphs: Graphs) -> None:
        other = SourceOp("docker-image://other")
        loaded = graphs.load(graphs.dump(STEP.output()), lambda _: other)
        assert loaded is not None
        assert [each.node.op for each in loaded.node.inputs] == [other]

        def refused(_: SourceOp) -> SourceOp:
            raise NotFoundError("no such source")

        with pytest.raises(NotFoundError, match="no such source"):
            graphs.load(graphs.dump(STEP.output()), refused)

    def test_what_is_no_definition_is_refused(self, graphs: Graphs) -> None:
        with pytest.raises(InvalidArgumentError):
            graphs.load(b"\xff")

    def test_a_definition_is_told_step_by_step(self, graphs: Graphs) -> None:
        config = graphs.config(graphs.dump(STEP.output()))
        assert {str(graphs.digest_of(each)) for each in (IMAGE, STEP)} <= set(config.digests)


@dataclass(frozen=True, slots=True)
class GatewayParts:
    gateway: Gateway  # of a build that goes on until its client ends it, with ``inputs``
    inputs: dict[str, bytes]
    good: bytes  # a definition, whose result has the file "out/made" with "0123"
    bad: bytes  # one whose step fails


class GatewayContract:
    """Of ``Gateway``; subclass with a fixture ``parts``."""

    promises: tuple[type, ...] = (Gateway,)

    async def solved(self, parts: GatewayParts) -> str:
        return (await parts.gateway.solve(GatewayRequest(definition=parts.good))).refs[""].id

    async def test_a_result_is_looked_into_by_its_ref(self, parts: GatewayParts) -> None:
        ref = await self.solved(parts)
        await parts.gateway.evaluate(ref)
        assert await parts.gateway.read_file(ref, "out/made", 1, 2) == b"12"
        assert (await parts.gateway.stat(ref, "out/made")).size == 4
        assert [each.path for each in await parts.gateway.read_directory(ref, "out", "")] == ["made"]
        with pytest.raises(NotFoundError):
            await parts.gateway.read_file(ref, "nosuch", 0, 0)

    async def test_the_empty_result_has_no_ref_and_no_files(self, parts: GatewayParts) -> None:
        await parts.gateway.evaluate("")
        assert list(await parts.gateway.read_directory("", "", "")) == []
        with pytest.raises(NotFoundError):
            await parts.gateway.stat("", "x")

    async def test_a_ref_that_nobody_has_made_is_not_found(self, parts: GatewayParts) -> None:
        for asked in (parts.gateway.evaluate("x"), parts.gateway.read_file("x", "y", 0, 0)):
            with pytest.raises(NotFoundError):
                await asked
        with pytest.raises(NotFoundError):
            parts.gateway.give({"": "x"}, {})

    async def test_a_step_that_fails_is_named_and_can_be_looked_at(self, parts: GatewayParts) -> None:
        with pytest.raises(LocatedError) as caught:
            await parts.gateway.solve(GatewayRequest(definition=parts.bad, evaluate=True))
        assert caught.value.vertex is not None
        assert caught.value.step is not None
        assert Digest.of(caught.value.step.operation) == caught.value.vertex

    async def test_what_is_no_definition_is_refused(self, parts: GatewayParts) -> None:
        with pytest.raises(InvalidArgumentError):
            await parts.gateway.solve(GatewayRequest(definition=b"\xff"))
        with pytest.raises(SampanError, match="nosuch"):
            await parts.gateway.solve(GatewayRequest(frontend="nosuch"))

    async def test_inputs_are_those_of_the_build(self, parts: GatewayParts) -> None:
        assert parts.gateway.inputs() == parts.inputs

    async def test_containers_are_looked_into_until_they_are_released(self, parts: GatewayParts) -> None:
        ref = await self.solved(parts)
        await parts.gateway.new_container(ContainerRequest("c", (Mount("/", input=0),), (ref,)))
        assert await parts.gateway.read_container_file("c", 0, "out/made", 0, 2) == b"01"
        assert (await parts.gateway.stat_in_container("c", 0, "out/made")).size == 4
        assert [each.path for each in await parts.gateway.read_container_directory("c", 0, "out", "")] == ["made"]
        await parts.gateway.release_container("c")
        with pytest.raises(NotFoundError):
            await parts.gateway.release_container("c")
        with pytest.raises(NotFoundError):
            await parts.gateway.read_container_file("c", 0, "out/made", 0, 2)

    async def test_a_build_is_ended_once(self, parts: GatewayParts) -> None:
        parts.gateway.give({"": await self.solved(parts)}, {})
        with pytest.raises(ConflictError):
            parts.gateway.give({"": ""}, {})
        with pytest.raises(ConflictError):
            parts.gateway.fail(RemoteError("too late"))
