"""What cannot read the table of services is held against it: whoever adds a service is told what is missing."""

import configparser
import re
from pathlib import Path

import pytest

from sampan import services

ROOT = Path(__file__).parents[2]


def test_the_table_and_the_folders_below_services_name_the_same_services() -> None:
    folders = {path.parent.name for path in (ROOT / "services").glob("*/__main__.py")}
    assert folders == set(services.ALL)


@pytest.mark.parametrize("name", services.ALL)
def test_a_service_is_a_package_with_a_main_that_runs_as_a_module(name: str) -> None:
    folder = ROOT / "services" / name
    assert [file for file in ("__init__.py", "__main__.py", "main.py") if not (folder / file).exists()] == []


def test_ports_are_each_service_s_own() -> None:
    assert len(set(services.METRICS_PORTS.values())) == len(services.TABLE)


def test_import_contracts_know_every_service() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter")
    # Also of a service that has rooms and no main yet.
    packages = {path.parent.name for path in (ROOT / "services").glob("*/__init__.py")}
    assert set(services.ALL) <= packages
    assert packages <= set(contracts["importlinter"]["root_packages"].split())
    assert set(contracts["importlinter:contract:services"]["modules"].split()) == packages
    assert set(contracts["importlinter:contract:cli"]["forbidden_modules"].split()) == packages
    layers = contracts["importlinter:contract:arrows"]["layers"].splitlines()
    assert {name.strip() for line in layers if "|" in line for name in line.split("|")} == packages


def test_prometheus_is_configured_to_scrape_every_service() -> None:
    text = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    found = re.findall(r'targets: \["127\.0\.0\.1:(\d+)"\].*\n.*labels: \{service: (\w+)\}', text)
    assert {name: int(port) for port, name in found} == services.METRICS_PORTS


def test_the_architecture_says_and_shows_what_every_service_is() -> None:
    owners = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE))
    assert set(services.ALL) <= owners, "a row of the table `part | owns | never does` is missing"
    boxes = set(re.findall(r" = (\w+);", (ROOT / "docs/pictures/services.txt").read_text()))
    assert set(services.ALL) <= boxes, "a box in docs/pictures/services.txt is missing"
