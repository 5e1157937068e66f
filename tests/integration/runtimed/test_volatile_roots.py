"""Roots of containers that go with their processes: nothing waits for their disk; they are mounted as others are."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan.sys import mounts

pytestmark = pytest.mark.root


@dataclass(frozen=True, slots=True)
class Stack:
    """An overlay, and where it is mounted."""

    directory: Path

    @property
    def target(self) -> Path:
        return self.directory / "merged"

    @property
    def options(self) -> tuple[str, ...]:
        named = [
            f"{option}={str(self.directory / part).replace(':', chr(92) + ':')}"
            for option, part in (("lowerdir", "lower"), ("upperdir", "upper"), ("workdir", "work"))
        ]
        return ("index=off", *named)

    @property
    def mounted(self) -> str:
        """How it is mounted, for the kernel; empty if it is not."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return next((line.partition(" - ")[2] for line in lines if line.split()[4] == str(self.target)), "")

    def mount(self, *more: str) -> None:
        mounts.mount_options("overlay", str(self.target), "overlay", (*self.options, *more))

    def mount_volatile(self, *more: str) -> None:
        mounts.mount_volatile("overlay", str(self.target), "overlay", (*self.options, *more))

    def unmount(self) -> None:
        mounts.umount2(str(self.target), mounts.MNT_DETACH)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "a:b")  # what overlayfs takes for a separator
    for part in ("lower", "upper", "work", "merged"):
        (stack.directory / part).mkdir(parents=True)
    yield stack
    while stack.mounted:
        stack.unmount()


def test_it_is_mounted_again_either_way_with_what_was_written(stack: Stack) -> None:
    stack.mount_volatile()
    assert "volatile" in stack.mounted
    (stack.target / "file").write_text("written")
    stack.unmount()
    stack.mount_volatile()
    assert (stack.target / "file").read_text() == "written"
    stack.unmount()
    stack.mount()
    assert "volatile" not in stack.mounted
    assert (stack.target / "file").read_text() == "written"


def test_who_was_killed_before_the_mark_was_gone_mounts_it_all_the_same(stack: Stack) -> None:
    stack.mount("volatile")
    stack.unmount()
    with pytest.raises(OSError, match="Invalid argument"):
        stack.mount()  # so does the kernel refuse what is marked
    stack.mount_volatile()
    stack.unmount()
    stack.mount("volatile")
    stack.unmount()
    mounts.unmark_volatile(stack.options)
    stack.mount()


def test_what_is_wrong_with_the_options_is_told_as_ever(stack: Stack) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        stack.mount_volatile("nonsense=1")
    with pytest.raises(InvalidArgumentError):
        stack.mount_volatile("x" * mounts.MAX_DATA_BYTES)
    assert not stack.mounted


def test_where_it_would_make_the_options_too_long_it_is_left_out(stack: Stack) -> None:
    index, lowers, *others = stack.options
    prefix = ":" + str(stack.directory).replace(":", "\\:") + "/"
    room = mounts.MAX_DATA_BYTES - len(",".join(stack.options))
    count = room // (len(prefix) + 100)
    for number in range(count):  # the last one fills it up
        size = 100 if number < count - 1 else room - (count - 1) * (len(prefix) + 100) - len(prefix)
        name = f"{number:-<{size}}"
        (stack.directory / name).mkdir()
        lowers += prefix + name
    mounts.mount_volatile("overlay", str(stack.target), "overlay", (index, lowers, *others))
    assert stack.mounted
    assert "volatile" not in stack.mounted
