"""How large may be what strangers give: labels, commands, environments, and records as a whole.

Every list carries the labels of all it shows, and every reader holds a record whole, so what one image, container,
network or volume brings is bounded where it comes in. A service's message holds the largest record several times over.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sampan.errors import InvalidArgumentError

# Of one image, network or volume. The longest that are known, in buildpacks' builders, take some 300 KB.
LABELS_BYTES: Final = 1 << 20

# Of one container: its image's, and as much of its own.
CONTAINER_LABELS_BYTES: Final = 2 * LABELS_BYTES

# Command line and environment. With the usual stack of 8 MiB, execve(2) takes a quarter of that, and no more.
PROCESS_BYTES: Final = 2 << 20

# PATH_MAX, without the NUL at the end.
PATH_BYTES: Final = 4095

# A container's spec, or another record that users make, with all that is in it.
RECORD_BYTES: Final = 6 << 20

# Container, network and volume names: what the name of a file, or of a host, may have.
NAME_CHARACTERS: Final = 255

# Networks of one container, and what it mounts. The kernel's own limits, of a bridge's ports and a namespace's mounts,
# are a little higher and met in the middle of a start.
NETWORKS: Final = 1000
MOUNTS: Final = 10_000

# The field of a container's spec that holds what Docker's client sent, whole.
SENT: Final = "docker"

# Beyond its text an item of a list costs its frame.
_ITEM_BYTES: Final = 8


def size_of(value: object) -> int:
    """Return about how many bytes a record takes that is made of dataclasses, tuples, mappings, text and numbers."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode(errors="surrogatepass"))
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(size_of(key) + size_of(item) + _ITEM_BYTES for key, item in value.items())
    if isinstance(value, tuple | list):
        return sum(size_of(item) + _ITEM_BYTES for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return sum(size_of(getattr(value, field.name)) for field in dataclasses.fields(value))
    return _ITEM_BYTES


def check_labels(labels: Mapping[str, str], what: str, most: int = LABELS_BYTES) -> None:
    """Raise InvalidArgumentError, naming ``what``, if labels or options take more than ``most`` bytes."""
    _check(size_of(labels), most, what)


def check_process(args: Iterable[str], env: Iterable[str], what: str) -> None:
    """Raise InvalidArgumentError, naming ``what``, if the kernel would not take them."""
    _check(size_of(tuple(args)) + size_of(tuple(env)), PROCESS_BYTES, f"{what}: command and environment")


def check_execution(args: Sequence[str], working_dir: str, user: str, groups: Sequence[str], what: str) -> None:
    """Raise InvalidArgumentError, naming ``what``, for what no system call takes: NUL, and paths beyond PATH_MAX.

    A runtime repeats them in its error, and one of 70,000 bytes does not get through the monitor's pipe.
    """
    for part, text in (
        *(("argument", text) for text in args),
        ("working directory", working_dir),
        ("user", user),
        *(("group", text) for text in groups),
    ):
        if "\0" in text:
            raise InvalidArgumentError(f"{what}: {part} {text[:40]!r} has a NUL byte in it")
    for part, text in (("command", args[0] if args else ""), ("working directory", working_dir), ("user", user)):
        if size_of(text) > PATH_BYTES:
            raise InvalidArgumentError(f"{what}: {part} {text[:40]}…: file name too long, the most is {PATH_BYTES}")


def check_name(name: str, what: str) -> None:
    """Raise InvalidArgumentError, naming ``what``, for a name that is too long."""
    if len(name) > NAME_CHARACTERS:
        raise InvalidArgumentError(f"{what} {name[:40]}…: {len(name)} characters, the most is {NAME_CHARACTERS}")


def check_record(record: object, what: str, most: int = RECORD_BYTES) -> None:
    """Raise InvalidArgumentError, naming ``what`` and the longest field, if a dataclass is too large as a whole."""
    size = size_of(record)
    if size > most:
        assert dataclasses.is_dataclass(record)
        # What Docker's client sent is kept as it came beside what was read of it, and is nothing that a user knows.
        fields = [field for field in dataclasses.fields(record) if field.name != SENT]
        longest = max(fields, key=lambda field: size_of(getattr(record, field.name)))
        _check(size, most, f"{what}, most of it in {longest.name.replace('_', ' ')}")


def _check(size: int, most: int, what: str) -> None:
    if size > most:
        raise InvalidArgumentError(f"{what}: {size} bytes in all, the most is {most}")
