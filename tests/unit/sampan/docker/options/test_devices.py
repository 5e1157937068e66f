import pytest

from sampan.docker.options.devices import check_devices, device, is_cdi_name, parse_device, parse_gpus, parse_rule
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Capabilities, DeviceRequest


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


def test_gpus_are_asked_for_as_docker_does() -> None:
    gpu = (Capabilities(("gpu",)),)
    assert parse_gpus("all") == DeviceRequest(count=-1, capabilities=gpu)
    assert parse_gpus("2") == DeviceRequest(count=2, capabilities=gpu)
    assert parse_gpus("device=0") == DeviceRequest(device_ids=("0",), capabilities=gpu)
    asked = parse_gpus('driver=nvidia,"device=0,1","capabilities=utility,gpu","options=a=b,c=d"')
    utility = (Capabilities(("utility", "gpu")),)
    assert asked == DeviceRequest("nvidia", 0, ("0", "1"), utility, {"a": "b", "c": "d"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("some", "invalid count (some): value must be either"),
        ("1,count=2", "gpu request key 'count' can be specified only once"),
        ("what=1", "unexpected key 'what' in 'what=1'"),
    ],
)
def test_gpus_that_cannot_be_are_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        parse_gpus(text)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("vendor.com/class=one", True),
        ("vendor.com/class=0:1", True),
        ("/dev/null", False),
        ("/dev/a=b", False),
        ("vendor.com/class=", False),
        ("vendor.com/class", False),
        ("vendor/a/b=c", False),
    ],
)
def test_names_of_cdi_devices_are_told_from_paths(text: str, is_name: bool) -> None:
    assert is_cdi_name(text) is is_name
