"""RUN: what is executed, with which mounts, and what the history says of it."""

import pytest

from buildd.llb.ops import (
    CacheMount,
    Device,
    FileOp,
    HostAddress,
    MakeDirectory,
    MakeFile,
    Mount,
    MountType,
    NetMode,
    ProxyEnv,
    SecretEnv,
    SecretMount,
    SecurityMode,
    Sharing,
    SshMount,
    Ulimit,
)
from sampan.build.progress import Position
from sampan.dockerfile.source import DockerfileError
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Resources
from tests.unit.buildd.frontend.building import build


def mount(text: str) -> Mount:
    """The mount of a RUN with that flag."""
    return build(f"FROM alpine\nWORKDIR /w\nRUN --mount={text} x\n").run().mounts[1]


def test_shell_form_goes_to_the_shell_and_exec_form_does_not() -> None:
    built = build('FROM alpine\nRUN echo "$A" | cat\nRUN ["a", "$B"]\nSHELL ["/bin/bash", "-ec"]\nRUN c\n')
    assert [built.run(i).process.args for i in range(3)] == [
        ("/bin/sh", "-c", 'echo "$A" | cat'),
        ("a", "$B"),
        ("/bin/bash", "-ec", "c"),
    ]
    assert built.history[1] == "RUN a $B # buildkit"


def test_a_step_has_the_user_directory_and_environment_of_its_stage() -> None:
    process = build("FROM alpine\nENV A=1\nUSER app:grp\nWORKDIR /w\nWORKDIR d\nRUN x\n").run().process
    assert (process.user, process.cwd, process.env) == ("app:grp", "/w/d", ("PATH=/bin", "A=1"))


def test_an_image_without_path_gets_the_usual_one() -> None:
    built = build("FROM scratch\nRUN x\n")
    assert built.run().process.env == ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)
    assert built.config["config"]["Env"] == list(built.run().process.env)


def test_a_here_document_is_the_text_for_the_shell() -> None:
    built = build("FROM alpine\nRUN <<EOF\nset -e\necho $A\nEOF\n")
    assert built.run().process.args == ("/bin/sh", "-c", "set -e\necho $A\n")
    assert built.names[-1] == "[2/2] RUN <<EOF (set -e...)"


def test_a_here_document_with_a_shebang_is_a_script() -> None:
    built = build("FROM alpine\nRUN <<-py\n\t#!/usr/bin/env python3\n\tprint(1)\npy\n")
    op = built.run()
    assert op.process.args == ("/bin/sh", "-c", "/dev/pipes/py")
    script = next(node.op for node in built.nodes if isinstance(node.op, FileOp))
    assert script.actions[0].action == MakeFile("/py", 0o755, b"#!/usr/bin/env python3\nprint(1)\n")
    assert op.mounts[1] == Mount("/dev/pipes", input=1, read_only=True)


def test_here_documents_for_commands_go_back_to_the_shell() -> None:
    args = build("FROM alpine\nRUN cat <<A 3<<B > /f\none\nA\ntwo\nB\n").run().process.args
    assert args[-1] == "cat <<A 3<<B > /f\none\nA\ntwo\nB"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("type=bind,target=/m", Mount("/m", input=1, read_only=True)),
        ("target=m,source=../s,rw", Mount("/w/m", input=1, selector="/s")),
        ("type=cache,target=/c", Mount("/c", MountType.CACHE, cache=CacheMount("//c"))),
        (
            "type=cache,id=apt,target=/c,sharing=locked,ro",
            Mount("/c", MountType.CACHE, read_only=True, cache=CacheMount("/apt", Sharing.LOCKED)),
        ),
        ("type=tmpfs,target=/t,size=2m", Mount("/t", MountType.TMPFS, tmpfs_bytes=2 << 20)),
        (
            "type=secret,id=tok",
            Mount("/run/secrets/tok", MountType.SECRET, secret=SecretMount("tok", optional=True)),
        ),
        (
            "type=secret,target=/etc/tok,required,mode=0440,uid=5",
            Mount("/etc/tok", MountType.SECRET, secret=SecretMount("tok", 5, mode=0o440)),
        ),
        ("type=ssh", Mount("/run/buildkit/ssh_agent.0", MountType.SSH, ssh=SshMount("default", optional=True))),
    ],
)
def test_mounts(text: str, expected: Mount) -> None:
    assert mount(text) == expected


def test_a_cache_with_an_owner_begins_as_a_directory_of_that_owner() -> None:
    built = build("FROM alpine\nRUN --mount=type=cache,target=/c,uid=7,mode=0700 x\n")
    op = built.run()
    assert op.mounts[1].selector == "/cache"
    made = next(node.op for node in built.nodes if isinstance(node.op, FileOp)).actions[0].action
    assert isinstance(made, MakeDirectory)
    assert (made.path, made.mode, made.owner and made.owner.user and made.owner.user.number) == ("/cache", 0o700, 7)


def test_a_secret_may_be_a_variable_that_progress_masks() -> None:
    built = build("FROM alpine\nRUN --mount=type=secret,id=tok,env=TOKEN use $TOKEN\n")
    assert built.run().secret_env == (SecretEnv("tok", "TOKEN", optional=True),)
    assert len(built.run().mounts) == 1
    assert built.names[-1] == "[stage-0 2/2] RUN --mount=type=secret,id=tok,env=TOKEN use ****"
    assert built.history == ["RUN /bin/sh -c use $TOKEN # buildkit"]


def test_mount_from_a_stage_and_from_an_image() -> None:
    built = build(
        "FROM alpine AS a\nRUN 1\nFROM alpine\nRUN --mount=from=a,target=/a --mount=from=alpine,target=/b 2\n"
    )
    op = built.run()
    node = built.edge.node
    assert node.inputs[op.mounts[1].input].node.metadata.name == "[a 2/2] RUN 1"
    assert node.inputs[op.mounts[2].input].node.metadata.name.startswith("FROM docker.io/library/alpine:latest@sha256:")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("RUN --mount=type=cache,target=/ x", 'invalid mount target "/"'),
        ("RUN --mount=from=$X,target=/a x", "doesn't support variable expansion"),
        ("RUN --network=bridge x", 'invalid network mode "bridge"'),
        ("RUN --nope=1 x", "unknown flag: --nope"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(DockerfileError, match=words) as caught:
        build(f"FROM alpine\n{text}\n")
    assert caught.value.lines is not None
    assert caught.value.lines.first == 2


def test_options_of_the_build_reach_every_step() -> None:
    attributes = {
        "add-hosts": "db=10.0.0.1,six=[::1]",
        "force-network-mode": "none",
        "shm-size": "4096",
        "ulimit": "nofile=10:20",
        "cgroup-parent": "/p",
        "hostname": "h",
        "build-arg:HTTPS_PROXY": "proxy:1",
    }
    op = build("FROM alpine\nRUN x\n", attributes).run()
    assert op.process.extra_hosts == (HostAddress("db", "10.0.0.1"), HostAddress("six", "::1"))
    assert op.process.ulimits == (Ulimit("nofile", 10, 20),)
    assert (op.process.cgroup_parent, op.process.hostname, op.network) == ("/p", "h", NetMode.NONE)
    assert op.process.proxy_env == ProxyEnv(https_proxy="proxy:1")
    assert op.mounts[-1] == Mount("/dev/shm", MountType.TMPFS, tmpfs_bytes=4096)


def test_network_security_and_devices_of_one_step() -> None:
    text = "FROM alpine\nRUN --network=host --security=insecure --device=vendor.io/gpu=all,required x\n"
    op = build(text).run()
    assert (op.network, op.security) == (NetMode.HOST, SecurityMode.INSECURE)
    assert op.devices == (Device("vendor.io/gpu=all"),)


def test_a_step_says_where_it_stands_and_shows_values_of_what_is_set_alone() -> None:
    built = build("FROM alpine\nARG V=1\nRUN a $V '$V' \\\n  $UNSET \"${V}\"\n")
    said = built.nodes[-1].metadata
    assert said.positions == (Position(3, 4),)
    assert said.name == "[2/2] RUN a 1 '$V'   $UNSET \"1\""


def test_the_first_agent_is_in_the_environment_unless_one_is() -> None:
    text = "FROM alpine\nRUN --mount=type=ssh,target=/a --mount=type=ssh,id=b x\n"
    op = build(text).run()
    assert [each.dest for each in op.mounts[1:]] == ["/a", "/run/buildkit/ssh_agent.1"]
    assert op.process.env[-1] == "SSH_AUTH_SOCK=/a"
    assert "SSH_AUTH_SOCK=/mine" in build(text.replace("RUN", "ENV SSH_AUTH_SOCK=/mine\nRUN")).run().process.env


def test_limits_are_said_of_each_process_and_change_no_key() -> None:
    attributes = {"memory": "67108864", "memswap": "-1", "cpushares": "512", "cpuperiod": "100000",
                  "cpuquota": "50000", "cpusetcpus": "0", "cpusetmems": "0"}  # fmt: skip
    text = "FROM alpine\nRUN x\n"
    limited, free = build(text, attributes), build(text)
    node = limited.edge.node
    assert node.metadata.limits == Resources(
        memory_bytes=64 << 20, memory_swap_bytes=-1, cpu_shares=512, cpu_period_us=100_000, cpu_quota_us=50_000,
        cpuset_cpus="0", cpuset_mems="0",
    )  # fmt: skip
    assert limited.run() == free.run()


def test_a_network_of_users_is_said_of_each_process_that_names_none() -> None:
    text = "FROM alpine\nRUN x\n"
    assert build(text, {"network-mode": "mine"}).edge.node.metadata.network_mode == "mine"
    assert build(text, {"network-mode": "mine"}).run() == build(text).run()
    other = build("FROM alpine\nRUN --network=none x\n", {"network-mode": "mine"})
    assert other.edge.node.metadata.network_mode == ""


@pytest.mark.parametrize("mode", ["host", "none", "default", "ns:/proc/1/ns/net"])
def test_what_needs_a_grant_is_no_network_of_users(mode: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is no network of the engine's"):
        build("FROM alpine\nRUN x\n", {"network-mode": mode})


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("memory", "0", "invalid memory value: 0: must be > 0"),
        ("memory", "1024", "Minimum memory limit allowed is 6MB"),
        ("memswap", "100000000", "You should always set the Memory limit"),
        ("cpuquota", "-5", "invalid cpuquota value: -5"),
    ],
)
def test_limits_that_cannot_be_are_refused(name: str, value: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        build("FROM alpine\nRUN x\n", {name: value})
