"""daemon.json: what is translated is understood by the services, and what is not is named."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runtimed.network.planning.default_bridge import parse_default_options
from runtimed.network.planning.ipam import parse_default_pools
from sampan.errors import InvalidArgumentError
from sampan.service import config
from sampan.service.config import ServiceConfig
from sampan_cli.app.app import app
from sampan_cli.migration.daemon_json import translate

WHOLE: dict[str, Any] = {
    "log-driver": "json-file",
    "log-opts": {"max-size": "10m", "max-file": "3"},
    "default-address-pools": [{"base": "10.200.0.0/16", "size": 24}],
    "dns": ["9.9.9.9"],
    "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 1000}},
    "default-shm-size": "128M",
    "runtimes": {"runsc": {"path": "/usr/bin/runsc"}, "odd": {"path": "/x", "runtimeArgs": ["--debug"]}},
    "registry-mirrors": ["https://mirror.example/", "https://other.example"],
    "insecure-registries": ["reg.lan:5000", "10.0.0.0/8"],
    "max-concurrent-downloads": 6,
    "hosts": ["unix:///var/run/docker.sock", "tcp://0.0.0.0:2376", "fd://"],
    "tlsverify": True,
    "tlscacert": "/ca",
    "tlscert": "/cert",
    "tlskey": "/key",
    "ip": "127.0.0.1",
    "no-new-privileges": True,
    "storage-driver": "overlay2",
    "builder": {"gc": {"enabled": True, "defaultKeepStorage": "20GB"}, "entitlements": {"security-insecure": True}},
    "features": {"buildkit": True},
    "live-restore": True,
    "icc": True,
    "userns-remap": "default",
    "bip": "10.1.0.1/24",
    "fixed-cidr": "10.1.0.128/25",
    "mtu": 1400,
    "init": True,
    "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1300"}},
    "labels": ["a=b"],
    "data-root": "/srv/docker",
    "metrics-addr": "127.0.0.1:9323",
    "debug": True,
    "nonsense": 1,
}


def load(tmp_path: Path, service: str, text: str) -> Any:
    (tmp_path / f"{service}.toml").write_text(text)
    module = importlib.import_module(f"{service}.main")
    (kind,) = (
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, ServiceConfig) and each is not ServiceConfig
    )
    return config.load(kind, service, (), {"SAMPAN_CONFIG_DIR": str(tmp_path)})


def test_services_understand_what_is_translated(tmp_path: Path) -> None:
    result = translate(WHOLE)
    loaded = {service: load(tmp_path, service, text) for service, text in result.texts().items()}
    runtimed, imaged, dockerapi = loaded["runtimed"], loaded["imaged"], loaded["dockerapi"]
    assert runtimed.defaults.log.options == {"max-size": "10m", "max-file": "3"}
    assert str(runtimed.default_bridge.pool.subnet) == "10.1.0.0/24"
    assert str(runtimed.default_bridge.pool.ip_range) == "10.1.0.128/25"
    assert (runtimed.default_bridge.mtu, runtimed.defaults.init, runtimed.labels) == (1400, True, ("a=b",))
    options = parse_default_options(runtimed.default_network_opts)
    assert options == {"bridge": {"com.docker.network.driver.mtu": "1300"}}
    assert parse_default_pools(runtimed.default_address_pools)
    assert runtimed.userns_remap == "default"
    assert runtimed.runtimes == ("runsc=/usr/bin/runsc",)
    assert [(one.host, one.insecure) for one in imaged.registries] == [("docker.io", False), ("reg.lan:5000", True)]
    assert [one.url for one in imaged.registries[0].mirrors] == ["https://mirror.example", "https://other.example"]
    assert imaged.parallel_downloads == 6
    assert [str(one.address) for one in dockerapi.wanted()] == WHOLE["hosts"]
    assert dockerapi.metrics == "127.0.0.1:9323"
    assert loaded["snapshotter"].driver == "overlayfs"
    assert loaded["buildd"].allow_security_insecure
    assert {one.log_level for one in loaded.values()} == {"debug"}


def test_what_has_no_equivalent_is_named() -> None:
    result = translate(WHOLE)
    assert sorted(line.partition(":")[0] for line in result.without) == [
        "data-root", "insecure-registries", "nonsense", "runtimes",
    ]  # fmt: skip
    (note,) = result.notes
    assert note == "userns-remap: the engine starts if /etc/subuid and /etc/subgid have ranges of dockremap's"


def test_a_port_that_was_open_is_told_about() -> None:
    (note,) = translate({"hosts": ["tcp://0.0.0.0:2375", "tcp://127.0.0.1:2375"]}).notes
    assert "tcp://0.0.0.0:2375 lets everybody in" in note


@pytest.mark.parametrize(
    ("key", "value"),
    [("dns", "9.9.9.9"), ("log-opts", {"max-file": 3}), ("hosts", [1]), ("default-ulimits", {"nofile": 1}),
     ("debug", "yes"), ("default-address-pools", [{}]), ("insecure-registries", ["a/b"]),
     ("max-concurrent-downloads", "3"),
     ("mtu", "1400"), ("icc", "no"), ("default-network-opts", {"bridge": {"a": 1}}), ("labels", "a=b"), ("init", 1),
     ("userns-remap", 1),
     ("builder", []), ("features", 1), ("log-level", "loud"), ("tls", "yes"), ("default-shm-size", "big")],
)  # fmt: skip
def test_a_value_that_cannot_be_understood_is_named(key: str, value: object) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{key}: "):
        translate({key: value})


def test_the_command_shows_or_writes_and_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "daemon.json").write_text(json.dumps(WHOLE))
    run = CliRunner().invoke
    shown = run(app, ["system", "import-config", str(tmp_path / "daemon.json")])
    assert shown.exit_code == 0
    assert "# runtimed.toml\n" in shown.stdout
    assert "no equivalent: nonsense: dockerd has no such key" in shown.stderr
    written = ["system", "import-config", "--write", str(tmp_path / "c"), str(tmp_path / "daemon.json")]
    assert run(app, written).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        "buildd.toml", "dockerapi.toml", "imaged.toml", "runtimed.toml", "snapshotter.toml",
    ]  # fmt: skip
    again = run(app, written)
    assert (again.exit_code, "nothing is overwritten" in again.stderr) == (1, True)
    for text in ("{", "[]", "x" * (2 << 20)):
        (tmp_path / "daemon.json").write_text(text)
        assert run(app, written).exit_code == 1
