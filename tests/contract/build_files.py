"""What is owed of outputs' files, whoever reads and changes them."""

import gzip
import io
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildd.llb.ops import Copy, FileAction, FileOp, MakeFile
from buildd.protocol import FileWorker, Form, Output, Selection, StepContext
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.digest import Digest
from tests.fakes.buildd import GO_DIRECTORY


@dataclass(frozen=True, slots=True)
class FileParts:
    files: FileWorker
    directory: Callable[[dict[str, bytes]], Output]  # one more, with these files
    context: StepContext


class FileWorkerContract:
    """Of ``protocol.FileWorker``; subclass with a fixture ``parts``."""

    promises: tuple[type, ...] = (FileWorker,)

    async def test_files_are_read_from_anywhere(self, parts: FileParts) -> None:
        output = parts.directory({"d/f": b"content", "other": b""})
        assert await parts.files.read_file(output, "/d/f") == b"content"
        assert await parts.files.read_file(output, "d/f", 3, 2) == b"te"
        assert await parts.files.read_file(output, "/d/f", 3) == b"tent"
        with pytest.raises(NotFoundError):
            await parts.files.read_file(output, "/d/nosuch")

    async def test_a_checksum_is_of_what_is_selected_and_nothing_else(self, parts: FileParts) -> None:
        one, other = parts.directory({"d/f": b"1", "x": b"1"}), parts.directory({"d/f": b"1", "x": b"2"})
        assert await parts.files.checksum(one, Selection("/d")) == await parts.files.checksum(other, Selection("/d"))
        assert await parts.files.checksum(one, Selection("/x")) != await parts.files.checksum(other, Selection("/x"))
        assert await parts.files.checksum(one, Selection("/")) != await parts.files.checksum(other, Selection("/"))
        with pytest.raises(NotFoundError, match='"/nosuch": not found'):
            await parts.files.checksum(one, Selection("/nosuch"))

    async def test_digests_are_those_of_each_file(self, parts: FileParts) -> None:
        output = parts.directory({"d/f": b"1", "x": b"2"})
        assert await parts.files.file_digests(output) == {"d/f": Digest.of(b"1"), "x": Digest.of(b"2")}

    async def test_a_directory_as_a_tree_has_one_layer_and_the_same_files(self, parts: FileParts) -> None:
        tree = await parts.files.flatten(parts.directory({"d/f": b"1"}))
        assert len(tree.layers) == 1
        assert await parts.files.flatten(tree) == tree
        assert await parts.files.read_file(tree, "/d/f") == b"1"

    async def test_a_change_is_one_more_layer_for_each_output(self, parts: FileParts) -> None:
        base = await parts.files.flatten(parts.directory({"base": b"stays"}))
        context = parts.directory({"d/f": b"copied", "other": b""})
        copied = Copy("/d/f", "/f")
        op = FileOp((FileAction(MakeFile("/made", 0o644, b"1"), 0), FileAction(copied, 2, 1, 0)))
        (tree,) = await parts.files.change(op, [base, context], parts.context)
        assert tree.layers[:1] == base.layers
        assert await parts.files.file_digests(tree) == {
            "base": Digest.of(b"stays"), "made": Digest.of(b"1"), "f": Digest.of(b"copied"),
        }  # fmt: skip

    async def test_entries_are_told_by_name_with_their_kinds(self, parts: FileParts) -> None:
        output = parts.directory({"d/f": b"four", "d/e/g": b"", "x": b""})
        found = await parts.files.read_directory(output, "/d")
        assert [(each.path, bool(each.mode & GO_DIRECTORY), each.size) for each in found] == [
            ("e", True, 0),
            ("f", False, 4),
        ]
        assert [each.path for each in await parts.files.read_directory(output, "/d", "f*")] == ["f"]
        assert (await parts.files.stat(output, "/d/f")).size == 4
        assert (await parts.files.stat(output, "d")).mode & GO_DIRECTORY
        with pytest.raises(NotFoundError):
            await parts.files.read_directory(output, "/nosuch")
        with pytest.raises(NotFoundError):
            await parts.files.stat(output, "/nosuch")

    async def test_outputs_are_packed_and_mounted_below_their_names(self, parts: FileParts) -> None:
        outputs: Mapping[str, Output] = {"one": parts.directory({"d/f": b"1"}), "other": parts.directory({"x": b"2"})}
        packed = io.BytesIO(b"".join([piece async for piece in parts.files.tar(outputs)]))
        with tarfile.open(fileobj=packed) as archive:
            files = {each.name.strip("./"): archive.extractfile(each) for each in archive if each.isreg()}
            assert {name: file.read() for name, file in files.items() if file is not None} == {
                "one/d/f": b"1",
                "other/x": b"2",
            }
        async with parts.files.mounted(outputs) as place:
            assert [(place / name).read_bytes() for name in ("one/d/f", "other/x")] == [b"1", b"2"]
        assert not (place / "one/d/f").exists()

    async def test_a_layer_in_another_form_has_the_same_tar(self, parts: FileParts, tmp_path: Path) -> None:
        written = io.BytesIO()
        with tarfile.open(fileobj=written, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("empty"))
        tar, target = written.getvalue(), tmp_path / "target"
        (tmp_path / "layer").write_bytes(tar)
        made = await parts.files.convert(tmp_path / "layer", target, Form("gzip"))
        assert (made.digest, made.size) == (Digest.of(target.read_bytes()), target.stat().st_size)
        assert (gzip.decompress(target.read_bytes()), made.diff_id) == (tar, Digest.of(tar))
        (tmp_path / "damaged").write_bytes(gzip.compress(tar)[:-20])
        with pytest.raises(InvalidArgumentError):
            await parts.files.convert(tmp_path / "damaged", tmp_path / "nothing", Form("gzip"))
