"""What ``sampan build`` asks of a builder."""

from io import StringIO
from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan_cli.commands.builder.solving import run_build
from sampan_cli.options.build import BuildOptions
from tests.fakes.builder import FakeBuilder


@pytest.fixture
def context(tmp_path: Path) -> str:
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    return str(tmp_path)


async def test_hosts_are_read_as_those_of_containers(context: str) -> None:
    builder = FakeBuilder()
    options = BuildOptions(context, add_host=("db:10.0.0.1", "six=[::1]", "up:host-gateway"))
    assert await run_build(builder, options, {"DOCKER_CONFIG": context}, StringIO()) == 0
    (request,) = builder.solved
    assert request.frontend_attributes["add-hosts"] == "db=10.0.0.1,six=::1,up=host-gateway"


@pytest.mark.parametrize(
    ("host", "words"),
    [("one", 'bad format for add-host: "one"'), ("db:ten", 'invalid IP address in add-host: "ten"')],
)
async def test_host_without_an_address_is_refused(context: str, host: str, words: str) -> None:
    builder = FakeBuilder()
    with pytest.raises(InvalidArgumentError, match=words):
        await run_build(builder, BuildOptions(context, add_host=(host,)), {"DOCKER_CONFIG": context}, StringIO())
    assert builder.solved == []


async def test_name_with_a_digest_is_refused(context: str) -> None:
    options = BuildOptions(context, tag=("app@sha256:" + "0" * 64,))
    with pytest.raises(InvalidArgumentError, match="build tag cannot contain a digest"):
        await run_build(FakeBuilder(), options, {}, StringIO())
