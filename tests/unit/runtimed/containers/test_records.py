import json
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
import pytest_asyncio

from runtimed.network.core.model import Network, Pool
from runtimed.network.core.sandboxes import SandboxFiles
from runtimed.network.core.store import NetworkStore
from runtimed.network.kernel.netlink import attribute, attributes
from sampan.errors import AlreadyExistsError
from sampan.resource.container import PublishedPort
from sampan.resource.container_spec import Endpoint
from sampan.store.database import Store
from tests.unit.runtimed.network_values import attached, sandbox

SIDE = Network(
    id="5" * 64,
    name="side",
    driver="bridge",
    created=datetime(2026, 5, 1, 12, 0, 0, 123456, tzinfo=UTC),
    bridge="sp-555555555555",
    internal=True,
    attachable=True,
    pools=(
        Pool(
            IPv4Network("10.0.0.0/24"),
            IPv4Address("10.0.0.1"),
            IPv4Network("10.0.0.128/25"),
            {"router": IPv4Address("10.0.0.2")},
        ),
        Pool(IPv4Network("10.1.0.0/24"), asked_for=False),
    ),
    options={"com.docker.network.driver.mtu": "1400"},
    labels={"tier": "web"},
    ipam_options={"a": "b"},
)


@pytest_asyncio.fixture
async def networks(tmp_path: Path) -> AsyncIterator[NetworkStore]:
    async with Store(tmp_path / "runtimed.db", "runtimed.schema") as store:
        yield NetworkStore(store)


@pytest.fixture
def files(tmp_path: Path) -> SandboxFiles:
    made = SandboxFiles(tmp_path)
    made.create()
    return made


async def test_network_comes_back_from_disk_as_it_was(networks: NetworkStore) -> None:
    await networks.add(SIDE)
    assert await networks.all() == (SIDE,)


async def test_name_is_given_once(networks: NetworkStore) -> None:
    await networks.add(SIDE)
    with pytest.raises(AlreadyExistsError, match="network with name side already exists"):
        await networks.add(replace(SIDE, id="6" * 64, bridge="other"))


async def test_networks_without_a_bridge_are_kept_side_by_side(networks: NetworkStore) -> None:
    await networks.add(
        *(Network(str(number) * 64, f"n{number}", "null", SIDE.created) for number in range(2)),
    )
    assert [network.bridge for network in await networks.all()] == ["", ""]


async def test_addresses_can_be_replaced_and_networks_forgotten(networks: NetworkStore) -> None:
    await networks.add(SIDE)
    moved = replace(SIDE, pools=SIDE.pools[:1])
    await networks.redefine(moved)
    assert await networks.all() == (moved,)
    await networks.remove(SIDE.id)
    await networks.remove(SIDE.id)
    assert await networks.all() == ()


def test_sandbox_comes_back_from_its_file_as_it_was(files: SandboxFiles) -> None:
    requested = Endpoint("side", ("db",), "10.0.0.9", links=("a:b",), driver_options={"x": "y"})
    whole = replace(
        sandbox(attached("side", "10.0.0.9", dns_names=("db", "web"), requested=requested)),
        ports=(PublishedPort(80, "tcp", "0.0.0.0", 8080),),
    )
    files.write(whole)
    assert files.all() == {whole.container_id: whole}
    files.remove(whole.container_id)
    files.remove(whole.container_id)
    assert files.all() == {}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"endpoints": [], "ports": [], "colour": "red"})])
def test_file_that_makes_no_sense_is_told_and_not_trusted(files: SandboxFiles, tmp_path: Path, text: str) -> None:
    (tmp_path / "sandboxes" / "abc").write_text(text)
    assert files.all() == {"abc": None}


def test_file_that_was_being_written_is_not_a_record(files: SandboxFiles, tmp_path: Path) -> None:
    (tmp_path / "sandboxes" / "abc.new").write_text("{")
    assert files.all() == {}
    assert not (tmp_path / "sandboxes" / "abc.new").exists()


def test_attributes_are_padded_and_read_back() -> None:
    blob = attribute(3, b"eth0\0") + attribute(4 | 1 << 15, b"\1\0\0\0")
    assert len(blob) == 12 + 8
    assert list(attributes(blob)) == [(3, b"eth0\0"), (4, b"\1\0\0\0")]


@pytest.mark.parametrize("blob", [b"", b"\1", struct.pack("=HH", 0, 1), struct.pack("=HH", 3, 1) + b"\0" * 8])
def test_attributes_that_lie_about_their_size_end_the_run(blob: bytes) -> None:
    assert list(attributes(blob)) == []
