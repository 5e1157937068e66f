import pytest

from sampan.docker.options.tmpfs import parse_tmpfs, tmpfs_options
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Mount, MountType


def test_options_replace_their_opposites() -> None:
    mount = Mount(MountType.TMPFS, "/x", options=("exec,size=1m", "uid=5"), tmpfs_mode=0o700, read_only=True)
    assert tmpfs_options(mount) == ("nosuid", "nodev", "exec", "size=1m", "uid=5", "mode=700", "ro")


def test_a_text_of_options_is_taken_apart() -> None:
    assert parse_tmpfs("/t", "rw,,noexec") == Mount(MountType.TMPFS, "/t", options=("rw", "noexec"))


@pytest.mark.parametrize("option", ["lowerdir=/etc", "size=x", "mode=9", "uid=99999999999", "nosuch"])
def test_what_the_kernel_does_not_take_is_refused(option: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f'invalid tmpfs option "{option}"'):
        tmpfs_options(parse_tmpfs("/t", option))
