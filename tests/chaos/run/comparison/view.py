"""What an engine says that it has: asked for through its API, as any client would."""

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.docker_client import UnixConnection
from tests.support.engine import Engine

_UP = ("running", "paused")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A container's place on a network."""

    network_id: str
    endpoint_id: str
    address: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A container."""

    id: str
    name: str
    status: str
    pid: int
    endpoints: tuple[Endpoint, ...]
    ports: tuple[str, ...]  # "127.0.0.1 . tcp . 32768 : 172.17.0.2 . 80", as nft writes it
    networked: bool  # has a network namespace of its own

    @property
    def is_up(self) -> bool:
        """Whether its processes are there."""
        return self.status in _UP


@dataclass(frozen=True, slots=True)
class View:
    """All of it."""

    containers: tuple[Shown, ...]
    networks: Mapping[str, tuple[str, ...]]  # those with a bridge: subnets by ID
    volumes: frozenset[str]
    build_cache: frozenset[str]  # IDs of its records

    @property
    def bridges(self) -> frozenset[str]:
        """IDs of the networks that have a bridge."""
        return frozenset(self.networks)

    @property
    def up(self) -> frozenset[str]:
        """IDs of the containers that run."""
        return frozenset(shown.id for shown in self.containers if shown.is_up)


def view_of(engine: Engine) -> View:
    """Ask for everything."""
    listed = _get(engine, "/containers/json?all=1")
    containers = tuple(_shown(_get(engine, f"/containers/{entry['Id']}/json")) for entry in listed)
    networks = _get(engine, "/networks")
    volumes = _get(engine, "/volumes")["Volumes"] or []
    return View(
        containers,
        {
            network["Id"]: tuple(pool["Subnet"] for pool in network["IPAM"]["Config"])
            for network in networks
            if network["Driver"] == "bridge"
        },
        frozenset(volume["Name"] for volume in volumes),
        frozenset(record["ID"] for record in _get(engine, "/system/df?type=build-cache")["BuildCache"] or ()),
    )


def rows(database: Path, query: str) -> list[Sequence[Any]]:
    """Read a service's own records."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        found: list[Sequence[Any]] = connection.execute(query).fetchall()
        return found


def _shown(inspected: dict[str, Any]) -> Shown:
    state, settings = inspected["State"], inspected["NetworkSettings"]
    endpoints = tuple(
        Endpoint(network["NetworkID"], network["EndpointID"], network["IPAddress"])
        for network in settings["Networks"].values()
        if network["IPAddress"]
    )
    targets = [endpoint.address for endpoint in endpoints]
    ports = tuple(
        f"{binding['HostIp']} . {port.partition('/')[2]} . {binding['HostPort']} : {{}} . {port.partition('/')[0]}"
        for port, bindings in (settings["Ports"] or {}).items()
        for binding in bindings or ()
    )
    # Which of several networks the ports lead to is seen in the rule; that it is one of the container's own is checked.
    return Shown(
        id=inspected["Id"],
        name=inspected["Name"],
        status=state["Status"],
        pid=state["Pid"],
        endpoints=endpoints,
        ports=ports if targets else (),
        networked=inspected["HostConfig"]["NetworkMode"] != "host",
    )


def _get(engine: Engine, path: str) -> Any:
    connection = UnixConnection(engine.layout.docker_socket, timeout=120)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, f"{path}: {response.status} {body[:300]!r}"
        return json.loads(body)
    finally:
        connection.close()
