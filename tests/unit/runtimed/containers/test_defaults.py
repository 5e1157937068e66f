"""What fills the gaps of a spec, as the configuration says it."""

import json
from pathlib import Path
from typing import Any

import pytest

from runtimed.containers.defaults import ContainerDefaults, make_defaults
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import (
    ContainerSpec,
    Dns,
    LogConfig,
    Namespaces,
    PortBinding,
    Resources,
    Security,
    Ulimit,
)

NOTHING: dict[str, Any] = {
    "log_driver": "", "log_opts": (), "dns": (), "dns_search": (), "dns_opts": (), "ulimits": (), "shm_size": "",
    "no_new_privileges": False, "host_ip": "", "init": False, "ipc_mode": "", "cgroupns_mode": "", "cgroup_parent": "",
    "seccomp_profile": "",
}  # fmt: skip
ALL = make_defaults(
    log_driver="json-file",
    log_opts=("max-size=10m", "max-file=3"),
    dns=("9.9.9.9",),
    dns_search=("lan",),
    dns_opts=("ndots:1",),
    ulimits=("nofile=1024:4096", "core=0"),
    shm_size="128m",
    no_new_privileges=True,
    host_ip="127.0.0.1",
    init=True,
    ipc_mode="shareable",
    cgroupns_mode="private",
    cgroup_parent="/team",
    seccomp_profile="unconfined",
)


def test_what_a_spec_does_not_say_is_filled_in() -> None:
    spec = ALL.fill(ContainerSpec(ports=(PortBinding(80),), publish_all_ports=True, exposed_ports=("53/udp", "80/tcp")))
    assert spec.log == LogConfig("json-file", {"max-size": "10m", "max-file": "3"})
    assert spec.dns == Dns(("9.9.9.9",), ("lan",), ("ndots:1",))
    assert spec.init is True
    assert ALL.fill(ContainerSpec(init=False)).init is False
    assert spec.resources.ulimits == (Ulimit("nofile", 1024, 4096), Ulimit("core", 0, 0))
    assert spec.resources.shm_size_bytes == 128 << 20
    assert spec.security.options == ("no-new-privileges", "seccomp=unconfined")
    assert (spec.namespaces.ipc, spec.namespaces.cgroup) == ("shareable", "private")
    assert spec.resources.cgroup_parent == "/team"
    assert spec.ports == (PortBinding(80, "tcp", "127.0.0.1"), PortBinding(53, "udp", "127.0.0.1"))


def test_what_a_spec_says_stays() -> None:
    given = ContainerSpec(
        log=LogConfig("json-file", {"max-size": "1m"}),
        dns=Dns(("1.1.1.1",)),
        resources=Resources(ulimits=(Ulimit("nofile", 1, 2),), shm_size_bytes=1 << 20, cgroup_parent="/own"),
        security=Security(options=("no-new-privileges=false", "seccomp=builtin")),
        namespaces=Namespaces(ipc="private", cgroup="host"),
        ports=(PortBinding(80, "tcp", "10.0.0.1"),),
    )
    spec = ALL.fill(given)
    assert spec.log.options == {"max-size": "1m", "max-file": "3"}
    assert spec.dns == Dns(("1.1.1.1",), ("lan",), ("ndots:1",))
    assert spec.resources.ulimits == (Ulimit("nofile", 1, 2), Ulimit("core", 0, 0))
    assert spec.resources.shm_size_bytes == 1 << 20
    assert (spec.security, spec.ports, spec.namespaces) == (given.security, given.ports, given.namespaces)
    assert spec.resources.cgroup_parent == "/own"


def test_who_is_privileged_keeps_its_rights_and_the_host_s_control_groups() -> None:
    spec = ALL.fill(ContainerSpec(security=Security(privileged=True)))
    assert spec.namespaces.cgroup == ""
    assert spec.security.options == ("no-new-privileges", "label=disable")


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (ContainerSpec(namespaces=Namespaces(pid="host")), ("label=disable",)),
        (ContainerSpec(namespaces=Namespaces(ipc="host")), ("label=disable",)),
        (ContainerSpec(namespaces=Namespaces(ipc="private", uts="host")), ()),
        (ContainerSpec(security=Security(privileged=True, options=("label=type:t",))), ("label=type:t",)),
    ],
)
def test_selinux_lets_those_be_that_share_the_host_s_processes(given: ContainerSpec, options: tuple[str, ...]) -> None:
    assert ContainerDefaults().fill(given).security.options == options


def test_profile_of_seccomp_is_read_from_its_file(tmp_path: Path) -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}
    (tmp_path / "p.json").write_text(json.dumps(profile, indent=4))
    read = make_defaults(**NOTHING | {"seccomp_profile": str(tmp_path / "p.json")})
    (option,) = read.fill(ContainerSpec()).security.options
    assert json.loads(option.removeprefix("seccomp=")) == profile
    assert make_defaults(**NOTHING | {"seccomp_profile": "builtin"}) == ContainerDefaults()
    for text in ("", "{", "[]", "{}", '{"defaultAction": "x", "syscalls": 1}', "[" * 100_000, "x" * (2 << 20)):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InvalidArgumentError, match=r"^seccomp_profile: /.*/bad\.json: "):
            make_defaults(**NOTHING | {"seccomp_profile": str(tmp_path / "bad.json")})


def test_another_log_driver_does_not_get_options_of_the_default_one() -> None:
    assert ALL.fill(ContainerSpec(log=LogConfig("none"))).log == LogConfig("none")
    local = make_defaults(**NOTHING | {"log_driver": "local"})
    assert local.fill(ContainerSpec()).log == LogConfig("local", {})
    assert local.fill(ContainerSpec(log=LogConfig("json-file"))).log == LogConfig("json-file")


def test_no_defaults_change_nothing() -> None:
    spec = ContainerSpec(log=LogConfig("", {"max-size": "1m"}), ports=(PortBinding(80),))
    assert make_defaults(**NOTHING) == ContainerDefaults()
    assert ContainerDefaults().fill(spec) == spec


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"log_driver": "nothing"}, "log_driver and log_opts: .*'nothing'"),
        ({"log_opts": ("max-sise=1",)}, "max-sise"),
        ({"log_opts": ("max-size",)}, "is not name=value"),
        ({"dns": ("example",)}, "dns: 'example' is no address"),
        ({"host_ip": "0.0.0.256"}, "host_ip"),
        ({"ulimits": ("nofile",)}, "default_ulimits"),
        ({"ulimits": ("nothing=1",)}, "invalid ulimit type"),
        ({"ulimits": ("nofile=1", "nofile=2")}, "there twice"),
        ({"shm_size": "much"}, "default_shm_size"),
        ({"ipc_mode": "host"}, "^default_ipc_mode: 'host' is neither private nor shareable"),
        ({"cgroupns_mode": "shared"}, "^default_cgroupns_mode: 'shared' is neither private nor host"),
        ({"cgroup_parent": "/a/../b"}, "^cgroup_parent: "),
        ({"seccomp_profile": "/nowhere/p.json"}, "^seccomp_profile: /nowhere/p.json: No such file"),
    ],
)
def test_what_no_container_could_have_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        make_defaults(**NOTHING | given)
