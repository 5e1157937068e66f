"""CRI's messages and values."""

import pytest

from crid.model.config import ContainerConfig
from crid.wire import convert
from sampan.api.cri.v1 import config_pb2 as pb
from sampan.api.cri.v1 import security_pb2
from sampan.errors import InvalidArgumentError

NAMES = [name for name in pb.Signal.keys() if name != "SIGNAL_RUNTIME_DEFAULT"]  # noqa: SIM118


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_comes_back_as_it_went(name: str) -> None:
    number = pb.Signal.Value(name)
    assert convert.signal_number(convert.signal_name(number)) == number


def test_signals_are_named_as_kill_knows_them() -> None:
    assert convert.signal_name(pb.SIGNAL_SIGRTMINPLUS3) == "SIGRTMIN+3"
    assert convert.signal_name(pb.SIGNAL_SIGRTMAXMINUS14) == "SIGRTMAX-14"
    assert convert.signal_name(pb.SIGNAL_RUNTIME_DEFAULT) == ""
    assert convert.signal_number("TERM") == pb.SIGNAL_SIGTERM
    assert convert.signal_number("37") == pb.SIGNAL_RUNTIME_DEFAULT  # a number has no name here
    with pytest.raises(InvalidArgumentError, match="stop_signal is 99"):
        convert.signal_name(99)


def test_a_container_s_config_is_kept_whole() -> None:
    message = pb.ContainerConfig(
        metadata=pb.ContainerMetadata(name="main", attempt=2),
        image=pb.ImageSpec(image="busybox", user_specified_image="busybox"),
        envs=[pb.KeyValue(key="A", value=b"1")],
        mounts=[pb.Mount(container_path="/d", host_path="/s", uid_mappings=[security_pb2.IDMapping(length=1)])],
        linux=pb.LinuxContainerConfig(
            security_context=security_pb2.LinuxContainerSecurityContext(
                run_as_user=security_pb2.Int64Value(value=0),
                seccomp=security_pb2.SecurityProfile(localhost_ref="/p"),
            )
        ),
        stop_signal=pb.SIGNAL_SIGUSR1,
    )
    value = convert.container_config(message)
    assert value.linux.security_context.run_as_user is not None  # 0 is somebody
    assert convert.container_of(convert.container_bytes(value)) == value
    assert convert.container_of(convert.container_bytes(ContainerConfig())) == ContainerConfig()


def test_what_another_system_is_asked_for_is_seen_though_it_is_empty() -> None:
    assert convert.POD_CONFIG.decode(pb.PodSandboxConfig(windows=pb.WindowsPodSandboxConfig())).windows is not None
    assert convert.POD_CONFIG.decode(pb.PodSandboxConfig()).windows is None


def test_a_record_that_is_none_is_an_error() -> None:
    for read in (convert.container_of, convert.pod_of):
        with pytest.raises(ValueError, match=r"pars|wire|message"):
            read(b"\xff\xff")
