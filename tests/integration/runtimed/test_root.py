"""Below chroot(2) runtimed does not start: an exec would find itself outside of its container."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root]

ROOT = Path(__file__).parents[4]

PROGRAM = """
import asyncio, os, sys
from runtimed.host.root import check_root
from sampan.errors import InvalidArgumentError
if sys.argv[1:]:
    os.chroot(sys.argv[1])
try:
    asyncio.run(check_root())
except InvalidArgumentError as error:
    print(error)
else:
    print("root", os.stat("/").st_ino)
"""


@pytest.mark.parametrize("below", [False, True])
def test_the_kernel_tells(tmp_path: Path, below: bool) -> None:
    (tmp_path / "proc").mkdir()
    program = f'mount -t proc proc {tmp_path}/proc && exec "$@"'
    where = [str(tmp_path)] if below else []
    told = subprocess.run(
        ["unshare", "-m", "sh", "-c", program, "sh", sys.executable, "-c", PROGRAM, *where],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'services'}"}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert told.startswith("the engine runs below chroot(2)" if below else "root ")
