"""Namespaces, interfaces, addresses, and the firewall: those of the networks and of the containers that run."""

import json
import re
import subprocess
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from runtimed.network.core.names import KernelNames, veth
from runtimed.network.kernel.rules import Bridge, tables, whole
from tests.chaos.run.comparison.view import View
from tests.support.engine import Engine
from tests.support.footprint import mounts
from tests.support.tools import search_path

_ENVIRONMENT = {"PATH": search_path()}


def namespaces(engine: Engine, view: View) -> list[str]:
    """A namespace file, mounted, and a record for each running container, and no others."""
    directory = engine.layout.run("runtimed") / "network"
    expected = {shown.id for shown in view.containers if shown.is_up and shown.networked}
    mounted = {Path(point).name for point in mounts(engine.layout) if Path(point).parent == directory / "netns"}
    return [
        *_difference("network namespace", {path.name for path in (directory / "netns").iterdir()}, expected),
        *_difference("mounted network namespace", mounted, expected),
        *_difference("record of a network", {path.name for path in (directory / "sandboxes").iterdir()}, set(view.up)),
    ]


def interfaces(engine: Engine, view: View) -> list[str]:
    """A bridge for each network, and on the bridges one end of a pair for each endpoint."""
    names = KernelNames.of(engine.layout)
    links = _json("ip", "-json", "link", "show")
    bridges = {
        link["ifname"]
        for link in links
        if link["ifname"] == names.default_bridge or str(link.get("ifalias", "")).startswith(names.owner)
    }
    ports = {link["ifname"] for link in links if link.get("master") in bridges}
    endpoints = {veth(end.endpoint_id) for shown in view.containers if shown.is_up for end in shown.endpoints}
    expected = {bridge for bridge in bridges if bridge == names.default_bridge}
    expected |= {names.bridge(identity) for identity in view.bridges if names.bridge(identity) in bridges}
    findings = _difference("interface", ports, endpoints) + _difference("bridge", bridges, expected)
    if len(bridges) != len(view.bridges):
        findings.append(f"{len(view.bridges)} networks have {len(bridges)} bridges: {sorted(bridges)}")
    return findings


def addresses(engine: Engine, view: View) -> list[str]:
    """Each container has in its namespace the addresses that it is shown with, and no two have the same."""
    findings = []
    taken: dict[tuple[str, str], str] = {}
    for shown in view.containers:
        if not shown.is_up or not shown.networked:
            continue
        path = engine.layout.run("runtimed") / "network/netns" / shown.id
        entered = ("nsenter", f"--net={path}", "ip", "-json", "-4", "address", "show", "scope", "global")
        has = {address["local"] for link in _json(*entered) for address in link.get("addr_info", ())}
        findings += _difference(f"address in {shown.id[:12]}", has, {end.address for end in shown.endpoints})
        for end in shown.endpoints:
            other = taken.setdefault((end.network_id, end.address), shown.id)
            if other != shown.id:
                findings.append(f"{shown.id[:12]} and {other[:12]} both have {end.address}")
    return findings


def rules(engine: Engine, view: View) -> list[str]:
    """The table's sets name the bridges that there are, and its maps the published ports."""
    name = engine.layout.kernel_name
    listing = subprocess.run(
        ["nft", "list", "table", "ip", name], capture_output=True, text=True, env=_ENVIRONMENT
    ).stdout
    published = set(re.findall(r"[\d.]+ \. tcp \. \d+ : [\d.]+ \. \d+", listing))
    expected = set()
    findings = []
    for shown in view.containers:
        possible = {port.format(end.address) for port in shown.ports for end in shown.endpoints if shown.is_up}
        here = possible & published
        if shown.is_up and len(here) != len(shown.ports):
            findings.append(f"container {shown.id[:12]} publishes {shown.ports}, rules are {sorted(here)}")
        expected |= here
    bridges = re.search(r"set bridges \{.*?\}\s*\}", listing, re.DOTALL)
    named = set(re.findall(r'"([^"]+)"', bridges.group() if bridges else ""))
    names = KernelNames.of(engine.layout)
    wanted = {names.default_bridge} | {names.bridge(identity) for identity in view.bridges}
    missing = [bridge for bridge in named if bridge not in wanted]
    if len(named) != len(view.bridges):
        findings.append(f"{len(view.bridges)} networks, and the table names {sorted(named)}")
    return [*findings, *_difference("rule", published, expected), *(f"table names bridge {each}" for each in missing)]


def chains(engine: Engine, view: View) -> list[str]:
    """The table's chains, and its sets of networks, are those that default options need, and no others."""
    names = KernelNames.of(engine.layout)
    bridges = []
    for identity, subnets in view.networks.items():
        bridge = names.bridge(identity)
        if not Path(f"/sys/class/net/{bridge}").exists():
            bridge = names.default_bridge
        bridges.append(Bridge(bridge, tuple(map(IPv4Network, subnets))))
    # The kernel's own words for what should be there, from a namespace where nothing else is.
    loaded = _listed("unshare", "--net", "sh", "-c", f"nft --file - && nft list table ip {names.table}",
                     commands=whole(names.table, tables(bridges, ())))  # fmt: skip
    return _difference("rule", _listed("nft", "list", "table", "ip", names.table), loaded)


def _listed(*command: str, commands: str = "") -> set[str]:
    """Return each chain's rules and each set's elements, but ports, with the chain's or set's name before each."""
    listing = subprocess.run(command, input=commands, capture_output=True, text=True, env=_ENVIRONMENT).stdout
    found = set()
    for chain, body in re.findall(r"chain (\S+) \{(.*?)\n\t\}", listing, re.DOTALL):
        found |= {f"{chain}: {line.strip()}" for line in body.splitlines() if line.strip()}
    for name, elements in re.findall(r"(?:set|map) (\S+) \{[^{}]*elements = \{(.*?)\}", listing, re.DOTALL):
        if name not in ("published", "published_at", "opened", "reached"):
            found |= {f"{name}: {element.strip()}" for element in elements.split(",")}
    return found


def _difference(what: str, found: set[str], expected: set[str]) -> list[str]:
    return [f"{what} {each} of nobody" for each in sorted(found - expected)] + [
        f"{what} {each} is missing" for each in sorted(expected - found)
    ]


def _json(*command: str) -> list[dict[str, Any]]:
    shown = subprocess.run(command, capture_output=True, env=_ENVIRONMENT).stdout
    parsed: list[dict[str, Any]] = json.loads(shown or "[]")
    return parsed
