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
log_driver = "json-file"
log_opts = ["max-size=10k", "max-file=2"]
dns = ["192.0.2.53"]
dns_search = ["lan.example"]
default_ulimits = ["nofile=100:200"]
default_shm_size = "16m"
no_new_privileges = true
host_ip = "127.0.0.1"
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
            "Type": "json-file",
            "Config": {"max-size": "10k", "max-file": "2"},
        }
        docker("rm", "-f", name)
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
