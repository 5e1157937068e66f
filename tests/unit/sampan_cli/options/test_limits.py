import pytest

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import RestartPolicy, Ulimit
from sampan_cli.options.limits import nano_cpus, parse_device, parse_restart, parse_ulimit


def test_one_number_is_both_limits() -> None:
    assert parse_ulimit("nofile=1024") == Ulimit(name="nofile", soft=1024, hard=1024)
    assert parse_ulimit("core=0:-1") == Ulimit(name="core", soft=0, hard=-1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nofile", "invalid ulimit argument: nofile"),
        ("nosuch=1", "invalid ulimit type: nosuch"),
        ("nofile=a", "invalid ulimit argument: nofile=a"),
        ("nofile=5:3", "soft limit must be less than or equal to hard limit: 5 > 3"),
    ],
)
def test_bad_ulimit_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        parse_ulimit(text)


@pytest.mark.parametrize(
    ("text", "device"),
    [
        ("/dev/a", ("/dev/a", "/dev/a", "rwm")),
        ("/dev/a:/dev/b", ("/dev/a", "/dev/b", "rwm")),
        ("/dev/a:r", ("/dev/a", "/dev/a", "r")),
        ("/dev/a:/dev/b:rw", ("/dev/a", "/dev/b", "rw")),
    ],
)
def test_device_may_have_another_name_and_fewer_rights(text: str, device: tuple[str, str, str]) -> None:
    parsed = parse_device(text)
    assert (parsed.host_path, parsed.container_path, parsed.permissions) == device


@pytest.mark.parametrize("text", ["", "/a:/b:x", "/a:/b:/c:rw", "a", "/a:b:rw"])
def test_bad_device_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_device(text)


def test_restart_policy_may_count() -> None:
    assert parse_restart("on-failure:3") == RestartPolicy(name="on-failure", maximum_retries=3)
    assert parse_restart("") == RestartPolicy(name="no")


@pytest.mark.parametrize("text", [":3", "on-failure:x", "sometimes", "always:3"])
def test_bad_restart_policy_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid restart policy"):
        parse_restart(text)


def test_cpus_are_exact() -> None:
    assert nano_cpus("1.5") == 1_500_000_000
    assert nano_cpus("0.000000001") == 1


@pytest.mark.parametrize("text", ["x", "-1", "nan", "inf", "0.0000000001"])
def test_bad_cpus_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        nano_cpus(text)
