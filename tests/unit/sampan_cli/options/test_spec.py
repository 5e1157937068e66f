import json
from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ContainerSpec, HealthCheck, Resources, Security
from sampan_cli.commands.container.create import command
from sampan_cli.options.container import ContainerOptions
from sampan_cli.options.spec import attached_streams, build_spec


def options(*arguments: str) -> ContainerOptions:
    context = command.make_context("create", list(arguments))
    return ContainerOptions(**context.params)


def spec(*arguments: str) -> ContainerSpec:
    return build_spec(options(*arguments), {"HOME": "/root"}, Path("/work"))


def test_what_follows_the_image_is_the_containers() -> None:
    built = spec("--name", "a", "busybox", "ls", "-l", "--name", "b")
    assert (built.name, built.image, list(built.process.cmd)) == ("a", "busybox", ["ls", "-l", "--name", "b"])


def test_nothing_said_leaves_the_engines_defaults() -> None:
    built = spec("busybox")
    assert built.resources == Resources()
    assert built.security == Security()
    assert built.namespaces.network == "bridge"
    assert built.stop_timeout_s is None
    assert built.health_check is None


def test_limits_become_numbers() -> None:
    resources = spec(
        *("-m", "512m", "--memory-swap", "-1", "--cpus", "1.5", "--pids-limit", "100", "--shm-size", "1g"),
        *("--ulimit", "nofile=1:2", "--device", "/dev/fuse", "--memory-swappiness", "0", "-c", "512", "busybox"),
    ).resources
    assert (resources.memory_bytes, resources.memory_swap_bytes) == (512 << 20, -1)
    assert (resources.nano_cpus, resources.pids_limit, resources.cpu_shares) == (1_500_000_000, 100, 512)
    assert resources.shm_size_bytes == 1 << 30
    assert resources.memory_swappiness == 0
    assert [ulimit.name for ulimit in resources.ulimits] == ["nofile"]
    assert [device.host_path for device in resources.devices] == ["/dev/fuse"]


def test_process_has_its_environment_user_and_terminal() -> None:
    process = spec("-it", "-e", "A=1", "-e", "HOME", "-u", "1:2", "-w", "/srv", "--group-add", "tty", "busybox").process
    assert list(process.env) == ["A=1", "HOME=/root"]
    assert (process.user, process.working_dir, list(process.additional_groups)) == ("1:2", "/srv", ["tty"])
    assert process.tty
    assert process.open_stdin
    assert process.stdin_once


def test_empty_entrypoint_is_not_the_same_as_none() -> None:
    assert list(spec("--entrypoint", "", "busybox").process.entrypoint) == [""]
    assert list(spec("busybox").process.entrypoint) == []


def test_published_ports_are_exposed() -> None:
    built = spec("-p", "127.0.0.1:8080:80", "-p", "53:53/udp", "--expose", "80-81", "busybox")
    assert list(built.exposed_ports) == ["80/tcp", "53/udp", "81/tcp"]
    assert [(port.host_ip, port.host_port, port.container_port) for port in built.ports] == [
        ("127.0.0.1", 8080, 80),
        ("", 53, 53),
    ]


def test_volumes_and_mounts_are_all_mounts_but_anonymous_ones() -> None:
    built = spec("-v", "/a:/b:ro", "-v", "/cache", "--tmpfs", "/t", "--mount", "type=volume,src=data,dst=/d", "busybox")
    assert [mount.target for mount in built.mounts] == ["/b", "/t", "/d"]
    assert list(built.anonymous_volumes) == ["/cache"]


def test_health_flags_become_a_check() -> None:
    check = spec("--health-cmd", "true", "--health-interval", "1m30s", "--health-retries", "4", "busybox").health_check
    assert check is not None
    assert list(check.test) == ["CMD-SHELL", "true"]
    assert check.interval_s == 90
    assert check.retries == 4
    assert spec("--no-healthcheck", "busybox").health_check == HealthCheck(("NONE",))


def test_seccomp_profile_is_sent_not_named(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW"}))
    built = spec("--security-opt", f"seccomp={profile}", "--security-opt", "no-new-privileges", "busybox")
    assert list(built.security.options) == ['seccomp={"defaultAction": "SCMP_ACT_ALLOW"}', "no-new-privileges"]
    assert list(spec("--security-opt", "seccomp=unconfined", "busybox").security.options) == ["seccomp=unconfined"]


def test_hosts_may_have_addresses_with_colons() -> None:
    built = spec("--add-host", "a:10.0.0.1", "--add-host", "b=[::1]", "--add-host", "c:host-gateway", "busybox")
    assert list(built.extra_hosts) == ["a:10.0.0.1", "b:::1", "c:host-gateway"]


def test_streams_are_attached_unless_some_are_named() -> None:
    assert attached_streams(options("busybox")) == ("stdout", "stderr")
    assert attached_streams(options("-i", "busybox")) == ("stdin", "stdout", "stderr")
    assert attached_streams(options("-i", "-a", "STDOUT", "busybox")) == ("stdout",)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--no-healthcheck", "--health-cmd", "x"), "--no-healthcheck conflicts"),
        (("--attach", "what"), "valid streams are STDIN, STDOUT and STDERR"),
        (("--security-opt", "seccomp=/nowhere"), "opening seccomp profile"),
        (("--sysctl", "a"), "invalid sysctl 'a'"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        spec(*arguments, "busybox")
