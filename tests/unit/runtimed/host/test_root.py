"""An engine below chroot(2) would let every exec out of its container."""

import pytest

from runtimed.host.root import check_root, root_of_thread
from sampan.errors import InvalidArgumentError


async def test_the_root_of_the_mount_namespace_is_good() -> None:
    await check_root(root_of_thread)


async def test_another_one_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="below chroot"):
        await check_root(lambda: (0, 0))


async def test_who_may_not_look_is_not_refused() -> None:
    def refuse() -> tuple[int, int]:
        raise PermissionError(1, "Operation not permitted")

    await check_root(refuse)
