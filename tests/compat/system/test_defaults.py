"""Defaults of containers from the configuration, as dockerd has them in daemon.json, and changed by SIGHUP."""

import json
import signal
from pathlib import Path

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import run_engine
from tests.support.images import push
from tests.support.registry import Registry
from tests.support.tools import eventually
from tests.support.trees import busybox_image

pytestmark = [pytest.mark.root, pytest.mark.slow]

TOML = """
log_driver = "local"
log_opts = ["max-size=10k", "max-file=2"]
dns = ["192.0.2.53"]
dns_search = ["lan.example"]
default_ulimits = ["nofile=100:200"]
default_shm_size = "16m"
no_new_privileges = true
host_ip = "127.0.0.1"
init = true
bip = "10.78.0.1/24"
mtu = 1400
icc = false
default_network_opts = ["bridge=com.docker.network.driver.mtu=1300"]
labels = ["rack=7", "owner=team"]
default_gateway = "10.78.0.254"
ipv6 = true
fixed_cidr_v6 = "fd78::/64"
host_gateway_ips = ["192.0.2.7"]
default_ipc_mode = "shareable"
default_cgroupns_mode = "private"
cgroup_parent = "/defaults-test"
seccomp_profile = "unconfined"
"""


def test_containers_get_what_they_do_not_say_themselves(docker_config: Path, registry: Registry) -> None:
    push(registry, "defaults", "1", busybox_image())
    image = f"{registry.address}/defaults:1"
    with run_engine({"runtimed": TOML}) as engine:
        docker = DockerClient(engine.host, docker_config)
        docker("pull", "-q", image)
        script = "ulimit -n; df -k /dev/shm | tail -n 1 | awk '{print $2}'; grep NoNewPrivs /proc/self/status"
        lines = docker("run", "--rm", image, "sh", "-c", f"{script}; cat /etc/resolv.conf").lines
        assert lines[:3] == ["100", "16384", "NoNewPrivs:\t1"]
        assert {"nameserver 192.0.2.53", "search lan.example"} <= set(lines)
        name = docker("run", "-d", "-p", "80", "--ulimit", "nofile=50", image, "sleep", "1000").line
        assert docker("port", name).line.partition("-> ")[2].startswith("127.0.0.1:")
        assert docker("exec", name, "sh", "-c", "ulimit -n").line == "50"
        (shown,) = json.loads(docker("inspect", name).stdout)
        assert shown["HostConfig"]["LogConfig"] == {
            "Type": "local",
            "Config": {"max-size": "10k", "max-file": "2"},
        }
        assert docker("run", "--rm", image, "cat", "/sys/class/net/eth0/mtu").line == "1400"
        assert docker("run", "--rm", image, "ip", "route").lines[0].startswith("default via 10.78.0.254")
        lines = docker("run", "--rm", image, "sh", "-c", "ip -6 route; grep Seccomp: /proc/self/status").lines
        assert "default via fd78::1" in " ".join(lines)
        assert lines[-1] == "Seccomp:\t0"
        assert docker(
            "run", "--rm", "--security-opt", "seccomp=builtin", image, "grep", "Seccomp:", "/proc/self/status"
        )
        hosts = docker("run", "--rm", "--add-host", "up:host-gateway", image, "cat", "/etc/hosts").lines
        assert "192.0.2.7\tup" in hosts
        host = json.loads(docker("inspect", name, "--format", "{{json .HostConfig}}").stdout)
        assert (host["IpcMode"], host["CgroupnsMode"]) == ("shareable", "private")
        assert host["CgroupParent"] == "/defaults-test"
        docker("rm", "-f", name)
        init = ("--network", "none", image, "cat", "/proc/1/comm")
        assert docker("run", "--rm", *init).line != "cat"
        assert docker("run", "--rm", "--init=false", *init).line == "cat"
        assert engine.sampan("run", "--rm", "--init=false", *init).stdout == "cat\n"
        docker("network", "create", "small")
        assert docker("run", "--rm", "--network", "small", image, "cat", "/sys/class/net/eth0/mtu").line == "1300"
        docker("network", "rm", "small")
        shown = json.loads(docker("network", "inspect", "bridge").stdout)[0]
        assert shown["IPAM"]["Config"] == [
            {
                "Subnet": "10.78.0.0/24",
                "Gateway": "10.78.0.1",
                "AuxiliaryAddresses": {"DefaultGatewayIPv4": "10.78.0.254"},
            },
            {"Subnet": "fd78::/64", "Gateway": "fd78::1"},
        ]
        assert shown["EnableIPv6"] is True
        assert shown["Options"]["com.docker.network.bridge.enable_icc"] == "false"
        assert json.loads(docker("info", "--format", "{{json .Labels}}").stdout) == ["rack=7", "owner=team"]
        assert docker("info", "--format", "{{.LoggingDriver}}").line == "local"
        file = engine.config / "runtimed.toml"
        assert engine.process is not None
        file.write_text('log_driver = "nothing"\n')
        engine.process.send_signal(signal.SIGHUP)
        eventually(lambda: "no log driver named 'nothing'" in engine.tail(20_000), "it is refused, and said")
        limit = ("run", "--rm", "--network", "none", image, "sh", "-c", "ulimit -n")
        assert docker(*limit).line == "100"
        file.write_text('default_ulimits = ["nofile=77"]\n')
        engine.process.send_signal(signal.SIGHUP)
        eventually(lambda: docker(*limit).line == "77", "the new default is used")
        file.write_text('labels = ["rack=8"]\n')
        engine.process.send_signal(signal.SIGHUP)
        told = ("info", "--format", "{{json .Labels}}")
        eventually(lambda: json.loads(docker(*told).stdout) == ["rack=8"], "the new label is shown")
        file.write_text('labels = ["rack=8", "rack=9"]\n')
        engine.process.send_signal(signal.SIGHUP)
        eventually(lambda: "conflict labels for rack=8 and rack=9" in engine.tail(20_000), "it is refused, and said")
