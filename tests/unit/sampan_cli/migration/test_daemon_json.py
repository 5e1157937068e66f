"""daemon.json: what is translated is understood by the services, and what is not is named."""

import contextlib
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runtimed.network.planning.default_bridge import parse_default_options
from runtimed.network.planning.ipam import parse_default_pools
from sampan.build.request import PruneOptions
from sampan.errors import InvalidArgumentError
from sampan.service import config
from sampan.service.config import ProxyConfig, ServiceConfig
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
    "builder": {
        "gc": {
            "enabled": True,
            "defaultKeepStorage": "20GB",
            "policy": [
                {"keepStorage": "10GB", "filter": ["unused-for=2200h", "type=source.local"]},
                {"maxUsedSpace": "50GB", "all": True},
            ],
        },
        "entitlements": {"security-insecure": True},
    },
    "live-restore": False,
    "shutdown-timeout": 30,
    "default-ipc-mode": "shareable",
    "default-cgroupns-mode": "host",
    "cgroup-parent": "/team",
    "seccomp-profile": "unconfined",
    "ipv6": True,
    "bip6": "fd12:3456:789a::1/64",
    "fixed-cidr-v6": "fd12:3456:789a::/80",
    "default-gateway": "10.1.0.254",
    "default-gateway-v6": "fd12:3456:789a::fe",
    "ip-masq": False,
    "host-gateway-ips": ["192.0.2.1", "2001:db8::1"],
    "proxies": {"http-proxy": "http://proxy.example:3128", "no-proxy": ".lan"},
    "log-format": "text",
    "features": {"buildkit": True, "cdi": True, "containerd-snapshotter": True},
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
        if isinstance(each, type) and issubclass(each, ServiceConfig) and each not in (ServiceConfig, ProxyConfig)
    )
    return config.load(kind, service, (), {"SAMPAN_CONFIG_DIR": str(tmp_path)})


def test_services_understand_what_is_translated(tmp_path: Path) -> None:
    result = translate(WHOLE)
    loaded = {service: load(tmp_path, service, text) for service, text in result.texts().items()}
    runtimed, imaged, dockerapi = loaded["runtimed"], loaded["imaged"], loaded["dockerapi"]
    assert runtimed.defaults.log.options == {"max-size": "10m", "max-file": "3"}
    v4, v6 = runtimed.default_bridge.pools
    assert [str(each) for each in (v4.subnet, v4.ip_range, v4.router)] == ["10.1.0.0/24", "10.1.0.128/25", "10.1.0.254"]
    assert [str(each) for each in (v6.subnet, v6.ip_range, v6.router)] == [
        "fd12:3456:789a::/64", "fd12:3456:789a::/80", "fd12:3456:789a::fe",
    ]  # fmt: skip
    assert not runtimed.default_bridge.masquerade
    assert (runtimed.live_restore, runtimed.shutdown_timeout_s) == (False, 30)
    assert runtimed.defaults.ipc == "shareable"
    assert (runtimed.defaults.cgroup_namespace, runtimed.defaults.cgroup_parent) == ("host", "/team")
    assert runtimed.defaults.seccomp == "unconfined"
    assert runtimed.host_gateways == ("192.0.2.1", "2001:db8::1")
    for reaching in (imaged, loaded["buildd"]):
        environment: dict[str, str] = {}
        reaching.name_proxies(environment)
        assert environment == {"http_proxy": "http://proxy.example:3128", "no_proxy": ".lan"}
    assert imaged.insecure_networks == ("10.0.0.0/8",)
    assert loaded["buildd"].bounds.rules == (
        PruneOptions(("type==source.local",), keep_duration_ns=2200 * 3600 * 10**9, reserved_bytes=10 << 30),
        PruneOptions(all=True, max_used_bytes=50 << 30),
    )
    assert {one.log_format for one in loaded.values()} == {"text"}
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
        "data-root", "nonsense", "runtimes",
    ]  # fmt: skip
    note, other = sorted(result.notes, reverse=True)
    assert other.startswith("insecure-registries: 10.0.0.0/8: of registries that are named by their addresses")
    assert note == "userns-remap: the engine starts if /etc/subuid and /etc/subgid have ranges of dockremap's"


# Every key that dockerd 29's configuration has (moby, daemon/config: config.go, config_linux.go), and older ones.
KEYS: tuple[str, ...] = (
    "allow-direct-routing", "allow-nondistributable-artifacts", "api-cors-header", "apparmor-profile",
    "authorization-plugins", "bip", "bip6", "bridge", "bridge-accept-fwmark", "builder", "cdi-spec-dirs",
    "cgroup-parent", "cluster-advertise", "cluster-store", "cluster-store-opts", "containerd", "containerd-namespace",
    "containerd-plugin-namespace", "cpu-rt-period", "cpu-rt-runtime", "cri-containerd", "data-root", "debug",
    "default-address-pools", "default-cgroupns-mode", "default-gateway", "default-gateway-v6", "default-init",
    "default-ipc-mode", "default-network-opts", "default-runtime", "default-shm-size", "default-ulimits",
    "deprecated-key-path", "dns", "dns-opts", "dns-search", "exec-opts", "exec-root", "experimental", "features",
    "firewall-backend", "fixed-cidr", "fixed-cidr-v6", "graph", "group", "host-gateway-ip", "host-gateway-ips",
    "hosts", "icc", "init", "init-path", "insecure-registries", "ip", "ip-forward", "ip-forward-no-drop", "ip-masq",
    "ip6tables", "iptables", "ipv6", "labels", "live-restore", "log-driver", "log-format", "log-level", "log-opts",
    "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts", "metrics-addr", "min-api-version",
    "mtu", "network-control-plane-mtu", "network-diagnostic-port", "no-new-privileges", "node-generic-resources",
    "nri-opts", "oom-score-adjust", "pidfile", "proxies", "raw-logs", "registry-mirrors", "resolv-conf", "rootless",
    "runtimes", "seccomp-profile", "selinux-enabled", "shutdown-timeout", "storage-driver", "storage-opts",
    "swarm-default-advertise-addr", "swarm-raft-election-tick", "swarm-raft-heartbeat-tick", "tls", "tlscacert",
    "tlscert", "tlskey", "tlsverify", "userland-proxy", "userland-proxy-path", "userns-remap",
)  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_no_key_of_dockerd_s_is_unknown(key: str) -> None:
    with contextlib.suppress(InvalidArgumentError):  # it is known, and cannot be that
        said = translate({key: {"of": ["no", "sense"]}}).without
        assert all("no such key" not in line for line in said)
        assert said, "it is passed over in silence"


def test_an_example_of_docker_s_documentation_needs_nothing() -> None:
    """Values that say nothing, as the reference of dockerd lists them."""
    nothing = {
        "allow-nondistributable-artifacts": [], "api-cors-header": "", "authorization-plugins": [], "bip": "",
        "bridge": "", "cgroup-parent": "", "data-root": "", "default-gateway": "", "default-gateway-v6": "",
        "default-network-opts": {}, "dns": [], "dns-opts": [], "dns-search": [], "exec-opts": [], "exec-root": "",
        "experimental": False, "features": {}, "fixed-cidr": "", "fixed-cidr-v6": "", "group": "",
        "host-gateway-ip": "", "hosts": [], "proxies": {}, "init": False, "insecure-registries": [], "ip": "0.0.0.0",
        "ipv6": False, "labels": [], "log-level": "", "mtu": 0, "oom-score-adjust": 0, "pidfile": "",
        "raw-logs": False, "registry-mirrors": [], "seccomp-profile": "", "selinux-enabled": False,
        "storage-driver": "", "storage-opts": [], "swarm-default-advertise-addr": "", "userns-remap": "",
        "tlscacert": "", "tlscert": "", "tlskey": "",
    }  # fmt: skip
    result = translate(nothing)
    assert (result.without, result.notes) == ([], [])
    assert all(value in ([], "", {}) for keys in result.files.values() for value in keys.values()), result.files


def test_what_is_said_of_ipv6_counts_with_ipv6_alone() -> None:
    result = translate({"fixed-cidr-v6": "fd00::/64"})
    assert result.without == ["fixed-cidr-v6: dockerd does nothing with it without ipv6"]
    assert "fixed_cidr_v6" not in result.files["runtimed"]


@pytest.mark.parametrize(
    ("options", "driver"),
    [([], "cgroupfs"), (["native.cgroupdriver=cgroupfs"], "cgroupfs"), (["native.cgroupdriver=systemd"], "systemd")],
)
def test_the_cgroup_driver_is_an_option_of_exec(tmp_path: Path, options: list[str], driver: str) -> None:
    result = translate({"exec-opts": options})
    text = result.texts().get("runtimed", "")
    assert load(tmp_path, "runtimed", text).cgroup_driver == driver
    assert result.without == []


def test_other_options_of_exec_are_named() -> None:
    (line,) = translate({"exec-opts": ["isolation=process"]}).without
    assert line == "exec-opts: isolation=process: the engine has nothing like it"


def test_a_port_that_was_open_is_told_about() -> None:
    (note,) = translate({"hosts": ["tcp://0.0.0.0:2375", "tcp://127.0.0.1:2375"]}).notes
    assert "tcp://0.0.0.0:2375 lets everybody in" in note


@pytest.mark.parametrize(
    ("key", "value"),
    [("exec-opts", "x"), ("exec-opts", ["native.cgroupdriver=runit"]),
     ("dns", "9.9.9.9"), ("log-opts", {"max-file": 3}), ("hosts", [1]), ("default-ulimits", {"nofile": 1}),
     ("debug", "yes"), ("default-address-pools", [{}]), ("insecure-registries", ["a/b"]),
     ("max-concurrent-downloads", "3"),
     ("mtu", "1400"), ("icc", "no"), ("default-network-opts", {"bridge": {"a": 1}}), ("labels", "a=b"), ("init", 1),
     ("userns-remap", 1),
     ("shutdown-timeout", "15"), ("live-restore", "yes"), ("proxies", {"ftp-proxy": "x"}), ("proxies", []),
     ("proxies", {"http-proxy": 1}), ("log-format", "xml"), ("ipv6", "yes"), ("host-gateway-ips", "10.0.0.1"),
     ("builder", {"gc": {"policy": [{"keepStorage": "much"}]}}), ("builder", {"gc": {"policy": [{"filter": [1]}]}}),
     ("builder", {"gc": {"policy": [{"keep": 1}]}}), ("builder", {"gc": {"policy": [1]}}),
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
