"""Devices of the host, ``/dev/a:/dev/b:rwm``, and rules of the device cgroup, ``c 1:* rw``.

Also limits for single block devices: ``/dev/sda:1mb`` of a flag, ``{"Path": …, "Rate": …}`` of the API. And
devices that a driver is to find: ``--gpus``, and devices of the Container Device Interface by name.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sampan.docker.comma_fields import comma_fields
from sampan.docker.sizes import parse_size
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Capabilities, Device, DeviceLimit, DeviceRequest, Resources

ALL: Final = "rwm"
_PERMISSIONS: Final = re.compile(r"[rwm]{1,3}")
_RULE: Final = re.compile(r"([acb]) ([0-9]{1,10}|\*):([0-9]{1,10}|\*) ([rwm]{1,3})")


def parse_device(text: str) -> Device:
    """Parse ``/dev/a[:/dev/b][:rwm]``.

    Raises:
        InvalidArgumentError: in Docker's words, more or less than that; ``check_devices`` looks at the parts.
    """
    host, *rest = text.split(":")
    if not host or len(rest) > 2:
        raise InvalidArgumentError(f"invalid device specification: {text}")
    if len(rest) == 2:
        return device(host, rest[0], rest[1])
    if rest and _PERMISSIONS.fullmatch(rest[0]):
        return device(host, "", rest[0])
    return device(host, *rest)


def device(host: str, container: str = "", permissions: str = "") -> Device:
    """Return a device; what is empty is the same as on the host, and everything."""
    return Device(host, container or host, permissions or ALL)


def check_devices(devices: Iterable[Device], rules: Iterable[str]) -> None:
    """Raise InvalidArgumentError for paths, permissions or rules of the wrong form; a start looks for the devices."""
    for one in devices:
        if "\0" in one.host_path + one.container_path:
            raise InvalidArgumentError(f"device {one.host_path[:40]!r}: its path has a NUL byte in it")
        if one.permissions and not _PERMISSIONS.fullmatch(one.permissions):
            raise InvalidArgumentError(f"invalid device mode: {one.permissions}")
        for path in (one.host_path, one.container_path or one.host_path):
            if not path.startswith("/"):
                raise InvalidArgumentError(f"{path} is not an absolute path")
    for rule in rules:
        parse_rule(rule)


def parse_rule(text: str) -> tuple[str, str, str, str]:
    """Return type, major, minor and access of a rule; ``*`` stands for all numbers.

    Raises:
        InvalidArgumentError: it is none; in Docker's words.
    """
    match = _RULE.fullmatch(text)
    if match is None:
        raise InvalidArgumentError(f"invalid device cgroup rule format: '{text}'")
    return match[1], match[2], match[3], match[4]


# By field of ``Resources``: the name in a HostConfig, and what the number is called there.
DEVICE_LIMITS: Final[Mapping[str, tuple[str, str]]] = {
    "blkio_weight_devices": ("BlkioWeightDevice", "Weight"),
    "device_read_bps": ("BlkioDeviceReadBps", "Rate"),
    "device_write_bps": ("BlkioDeviceWriteBps", "Rate"),
    "device_read_iops": ("BlkioDeviceReadIOps", "Rate"),
    "device_write_iops": ("BlkioDeviceWriteIOps", "Rate"),
}

_WEIGHT: Final = range(10, 1_001)
_MOST: Final = (1 << 63) - 1


def parse_rate(text: str) -> DeviceLimit:
    """Parse ``/dev/sda:1mb``, bytes per second. Raises InvalidArgumentError in Docker's words."""
    return _parse(
        text,
        parse_size,
        "invalid rate for device: {}. The correct format is <device-path>:<number>[<unit>]. "
        "Number must be a positive integer. Unit is optional and can be kb, mb, or gb",
    )


def parse_iops(text: str) -> DeviceLimit:
    """Parse ``/dev/sda:1000``, operations per second. Raises InvalidArgumentError in Docker's words."""
    complaint = "invalid rate for device: {}. The correct format is <device-path>:<number>. "
    return _parse(text, int, complaint + "Number must be a positive integer")


def parse_weight(text: str) -> DeviceLimit:
    """Parse ``/dev/sda:500``. Raises InvalidArgumentError in Docker's words."""
    limit = _parse(text, int, "invalid weight for device: {}")
    if limit.value and limit.value not in _WEIGHT:
        raise InvalidArgumentError(f"invalid weight for device: {text}")
    return limit


def _parse(text: str, number: Callable[[str], int], complaint: str) -> DeviceLimit:
    path, colon, value = text.partition(":")
    if not colon:
        raise InvalidArgumentError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise InvalidArgumentError(f"bad format for device path: {text}")
    try:
        parsed = number(value)
    except (ValueError, InvalidArgumentError):
        parsed = -1
    if not 0 <= parsed <= _MOST:
        raise InvalidArgumentError(complaint.format(text))
    return DeviceLimit(path, parsed)


def check_device_limits(resources: Resources) -> None:
    """Raise InvalidArgumentError for a limit that cannot be meant; a start looks for the devices."""
    for limit in resources.blkio_weight_devices:
        if limit.value not in _WEIGHT:
            raise InvalidArgumentError(f"Range of blkio weight is from 10 to 1000: {limit.path[:100]}")
    for field in DEVICE_LIMITS:
        limits: Iterable[DeviceLimit] = getattr(resources, field)
        for limit in limits:
            if not limit.path.startswith("/") or "\0" in limit.path:
                raise InvalidArgumentError(f"bad format for device path: {limit.path[:100]}")
            if limit.value > _MOST:
                raise InvalidArgumentError(f"invalid rate for device: {limit.path[:100]}: {limit.value}")


CDI: Final = "cdi"  # the driver of devices that are named by kind, ``vendor/class=name``
VENDOR: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")
CLASS: Final = re.compile(r"[A-Za-z](?:[A-Za-z0-9_-]*[A-Za-z0-9])?")
DEVICE_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?")

_GPU: Final = "gpu"
_ALL: Final = -1


def is_cdi_name(text: str) -> bool:
    """Say whether ``text`` is a qualified name, ``vendor/class=name``."""
    kind, equals, name = text.partition("=")
    vendor, slash, device_class = kind.partition("/")
    return bool(
        equals and slash and VENDOR.fullmatch(vendor) and CLASS.fullmatch(device_class) and DEVICE_NAME.fullmatch(name)
    )


def cdi_request(names: tuple[str, ...]) -> DeviceRequest:
    """Return the request for devices by qualified name."""
    return DeviceRequest(driver=CDI, device_ids=names)


def parse_gpus(text: str) -> DeviceRequest:
    """Parse ``all``, ``2``, ``"device=0,1",capabilities=utility``…, a flag's value with its commas.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    count: int | None = None
    driver = ""
    devices: tuple[str, ...] = ()
    capabilities = [_GPU]
    options: dict[str, str] = {}
    seen: set[str] = set()
    for field in comma_fields(text):
        key, equals, value = field.partition("=")
        if not equals:
            key, value = "count", field
        if key in seen:
            raise InvalidArgumentError(f"gpu request key '{key}' can be specified only once")
        seen.add(key)
        if key == "driver":
            driver = value
        elif key == "count":
            count = _count(value)
        elif key == "device":
            devices = tuple(value.split(","))
        elif key == "capabilities":
            capabilities = [*value.split(","), _GPU]
        elif key == "options":
            pairs = (pair.partition("=") for pair in comma_fields(value))
            options = {name: given for name, _, given in pairs}
        else:
            raise InvalidArgumentError(f"unexpected key '{key}' in '{field}'")
    if count is None:
        count = 0 if devices else 1
    names = tuple(dict.fromkeys(capabilities))
    return DeviceRequest(driver, count, devices, (Capabilities(names),), options)


def _count(text: str) -> int:
    if text == "all":
        return _ALL
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise InvalidArgumentError(
            f'invalid count ({text}): value must be either "all" or an integer: '
            f'strconv.Atoi: parsing "{text}": invalid syntax'
        )
    return int(text)
