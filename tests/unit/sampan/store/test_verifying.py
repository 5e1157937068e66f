import hashlib
import os
from contextlib import aclosing
from pathlib import Path

from sampan.check import Amount
from sampan.store.verifying import Difference, ExpectedFile, compare, verify

CONTENT = os.urandom(2_500_000)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def test_a_whole_file_does_not_differ(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    assert compare(ExpectedFile(tmp_path / "file", len(CONTENT), DIGEST)) is None
    assert compare(ExpectedFile(tmp_path / "file", -1, DIGEST)) is None
    assert compare(ExpectedFile(tmp_path / "file", len(CONTENT))) is None


def test_each_difference_has_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "file"
    expected = ExpectedFile(path, len(CONTENT), DIGEST)

    def kind() -> str:
        found = compare(expected)
        assert found is not None
        return found.kind

    assert kind() == "missing"
    path.write_bytes(CONTENT[:-1])
    assert kind() == "size"
    path.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    assert kind() == "digest"
    path.unlink()
    path.symlink_to(tmp_path)
    assert kind() == "unreadable"


async def test_progress_ends_with_all_bytes_and_damage_is_told(tmp_path: Path) -> None:
    files = []
    for number in range(5):
        path = tmp_path / str(number)
        path.write_bytes(CONTENT if number != 3 else CONTENT[:5])
        files.append(ExpectedFile(path, len(CONTENT), DIGEST))
    steps = []
    async with aclosing(verify("blobs", files)) as verified:
        steps = [step async for step in verified]
    assert [step for step in steps if not isinstance(step, Amount)] == [
        (files[3], Difference("size", f"its file has 5 bytes instead of {len(CONTENT)}"))
    ]
    assert steps[-1] == Amount("blobs", 5, 5, 4 * len(CONTENT), 5 * len(CONTENT))


async def test_one_that_is_closed_early_leaves_no_thread_at_work(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    async with aclosing(verify("blobs", [ExpectedFile(path, len(CONTENT), DIGEST)] * 20)) as steps:
        async for step in steps:
            if isinstance(step, Amount) and step.done:
                break
