import pytest

from sampan.docker.options.devices import check_devices, device, parse_device, parse_rule
from sampan.errors import InvalidArgumentError


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


@pytest.mark.parametrize("text", ["", ":/a", "/a:/b:/c:rw:", "/a:/b:x", "/a:/b:/c:rw", "a", "/a:b:rw"])
def test_bad_device_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        check_devices([parse_device(text)], [])


def test_what_is_left_out_is_as_on_the_host() -> None:
    assert device("/dev/a") == parse_device("/dev/a")
    assert device("/dev/a", permissions="r") == parse_device("/dev/a:r")


def test_a_rule_has_four_parts() -> None:
    assert parse_rule("c 1:* rw") == ("c", "1", "*", "rw")


@pytest.mark.parametrize("text", ["", "c 1:3", "d 1:3 r", "c 1:3 x", "c 1:99999999999 r"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid device cgroup rule format"):
        check_devices([], [text])
