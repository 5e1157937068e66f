"""Limits for single block devices: ``/dev/sda:1mb`` of a flag, ``{"Path": …, "Rate": …}`` of the API."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from sampan.docker.sizes import parse_size
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import DeviceLimit, Resources

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
