"""Layers that are damaged, hostile or odd, through a real worker, in both formats that a layer is stored in.

What is refused names the layer and what is wrong with it, and leaves nothing. What Docker takes is taken.
"""

import functools
import gzip
import io
import lzma
import os
import resource
import stat
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zstandard

from sampan.errors import DataLossError, InvalidArgumentError
from sampan.oci.descriptor import OCI_LAYER_GZIP, Descriptor
from sampan.oci.digest import Digest
from snapshotter.layers.formats import LayerFormat
from snapshotter.layers.limits import LayerLimits
from snapshotter.workers.job import ApplyJob
from tests.fakes.content import FakeContent
from tests.support.snapshotter import Kit, Parts, finished, local, names, shown, workers
from tests.support.tools import need_root

pytestmark = pytest.mark.root

SMALL = LayerLimits(entries=5000, total_bytes=64 << 20)


@pytest.fixture(params=["erofs", "overlayfs"])
async def parts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Parts]:
    need_root()
    async with local(tmp_path / "root", str(request.param), FakeContent(), limits=SMALL) as parts:
        yield parts


def header(name: bytes = b"f", kind: bytes = b"0", size: bytes = b"00000000000\0", **fields: bytes) -> bytes:
    """Return a ustar header whose numeric fields are given as they stand in it."""
    mode, mtime = fields.get("mode", b"0000644\0"), fields.get("mtime", b"14000000000\0")
    uid, gid, link = fields.get("uid", b"0000000\0"), fields.get("gid", b"0000000\0"), fields.get("link", b"")
    start = name.ljust(100, b"\0") + mode + uid + gid + size + mtime
    rest = kind + link.ljust(100, b"\0") + b"ustar\x0000"
    total = sum(start) + sum(rest) + 8 * 32
    return (start + b"%06o\0 " % total + rest).ljust(512, b"\0")


def base256(value: int, width: int = 12) -> bytes:
    """Return GNU's form of a large or negative number."""
    return bytes([(value >> 8 * (width - 1)) & 0xFF | 0x80]) + (value % (1 << 8 * (width - 1))).to_bytes(width - 1)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(body: bytes) -> bytes:
    return header(b"pax", b"x", b"%011o\0" % len(body)) + padded(body)


def record(key: bytes, value: bytes) -> bytes:
    size = len(key) + len(value) + 3
    while len(line := b"%d %s=%s\n" % (size, key, value)) != size:
        size = len(line)
    return line


def archive(*parts: bytes) -> bytes:
    return b"".join(parts) + bytes(1024)


def good(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return out.getvalue()


def sparse_map(*numbers: int) -> bytes:
    body = b"".join(
        record(key, value)
        for key, value in (
            (b"GNU.sparse.size", b"1000"),
            (b"GNU.sparse.map", b",".join(b"%d" % number for number in numbers)),
        )
    )
    return archive(pax(body), header(size=b"00000000024\0"), padded(b"x" * 20))


def deep() -> bytes:
    """Return 4,096 folders in each other, deeper than one name can say, by way of links on the way down."""
    parts = []
    for here, below, levels in ((b"", b"l1", 1366), (b"l1/", b"l2", 1365), (b"l2/", b"l3", 1365)):
        path = here + b"/".join([b"d"] * levels)
        parts += [pax(record(b"path", path)), header(kind=b"5")]
        parts += [pax(record(b"linkpath", path)), header(below, b"2")]
    return archive(*parts)


CAPACITY = b"77777777777\0"
REFUSED = {
    "negative size": (archive(header(size=base256(-1))), "'f' has the size -1"),
    "8 EiB": (archive(header(size=base256(1 << 63))), "bytes of files, at entry b'f'"),
    "8 EiB in octal": (archive(header(size=CAPACITY)), "bytes of files, at entry b'f'"),
    "largest base 256": (archive(header(size=base256((1 << 94) - 1))), "bytes of files, at entry b'f'"),
    "a pax header of 1 GB": (archive(header(b"p", b"x", b"%011o\0" % (1 << 30))), "extension headers of 1073741824"),
    "many pax headers": (archive(pax(record(b"k", b"v" * 9000)) * 200, header()), "extension headers of"),
    "a GNU name of 1 GB": (archive(header(b"p", b"L", b"%011o\0" % (1 << 30))), "extension headers of 1073741824"),
    "overlapping sparse parts": (sparse_map(0, 10, 5, 10), "parts overlap"),
    "sparse parts out of order": (sparse_map(500, 10, 0, 10), "parts overlap or are out of order"),
    "sparse parts beyond the size": (sparse_map(990, 20), "parts do not fit its size"),
    "sparse parts longer than the data": (sparse_map(0, 10, 100, 500), "parts do not fit its size"),
    "half a sparse part": (sparse_map(0, 10, 20), "half a part"),
    "a cycle of hard links": (archive(header(b"a", b"1", link=b"b"), header(b"b", b"1", link=b"a")), "entry 'a'"),
    "a NUL in a name": (archive(pax(record(b"path", b"a\0b")), header()), "NUL byte in its name"),
    "a NUL in a link": (archive(pax(record(b"linkpath", b"a\0b")), header(b"l", b"2")), "NUL byte in its link"),
    "a name of 300 bytes": (archive(pax(record(b"path", b"n" * 300)), header()), "longer than 255 bytes"),
    "a path of 5,000 bytes": (archive(pax(record(b"path", b"n/" * 2500)), header()), "the most is 4095"),
    "owner 2**32-1": (archive(header(uid=base256(2**32 - 1, 8))), "the owner 4294967295"),
    "group 2**32-1": (archive(header(gid=base256(2**32 - 1, 8))), "the owner 4294967295"),
    "a negative owner": (archive(header(uid=base256(-5, 8))), "the owner -5"),
    "an unknown type": (archive(header(kind=b"9")), "unknown type"),
    "more entries than allowed": (archive(header() * 5001), "more than 5000 entries"),
    "a whiteout of nothing": (archive(header(b"d/.wh.")), "whiteout of nothing"),
    "what is no archive": (os.urandom(5000), "checksum is wrong"),
    "an archive cut short": (good(a=b"x" * 10_000)[:5000], "ends in the middle of a file"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_layer_that_must_not_be_is_refused(parts: Parts, case: str) -> None:
    data, words = REFUSED[case]
    await refuse(parts, gzip.compress(data, mtime=0), Digest.of(data), words)


async def refuse(
    parts: Parts, blob: bytes, diff_id: Digest, words: str, error: type[Exception] = InvalidArgumentError
) -> None:
    """Apply, and see that it fails with these words and leaves nothing."""
    descriptor = Descriptor(OCI_LAYER_GZIP, parts.content.add(blob), len(blob))
    with pytest.raises(error) as caught:
        await finished(parts.layers.apply(descriptor, diff_id))
    assert words in str(caught.value)
    assert f"layer {diff_id}" in str(caught.value)
    await parts.snapshots.cleanup()
    assert list(parts.disk.layers.iterdir()) == []
    for name in ("tmp", "trash"):
        assert list((parts.disk.root / name).iterdir()) == []


@pytest.mark.parametrize("tenth", range(10))
async def test_a_gzip_stream_cut_anywhere_is_refused(parts: Parts, tenth: int) -> None:
    data = good(a=os.urandom(200_000), b=bytes(300_000))
    blob = gzip.compress(data, mtime=0)
    cut = blob[: len(blob) * tenth // 10 + 5 * (tenth == 0)]
    await refuse(parts, cut, Digest.of(data), "gzip stream is cut short")


async def test_a_gzip_stream_without_its_checksum_is_refused(parts: Parts) -> None:
    data = good(a=b"x")
    await refuse(parts, gzip.compress(data, mtime=0)[:-4], Digest.of(data), "gzip stream is cut short")


@pytest.mark.parametrize("junk", [b"junk", b"\0\0junk", b"\x1f\x8b", b"\x1f\x8bnot gzip after all"])
async def test_junk_after_a_gzip_stream_is_refused(parts: Parts, junk: bytes) -> None:
    data = good(a=b"x")
    blob = gzip.compress(data, mtime=0) + junk
    with pytest.raises(InvalidArgumentError, match=r"after its end|cut short"):
        await finished(
            parts.layers.apply(Descriptor(OCI_LAYER_GZIP, parts.content.add(blob), len(blob)), Digest.of(data))
        )


async def test_a_zstd_window_of_2_gib_is_refused_without_taking_as_much(parts: Parts) -> None:
    # A frame header that announces the window: descriptor 0, window exponent 21 (10 + 21 = 2 GiB); then an empty block.
    blob = b"\x28\xb5\x2f\xfd" + bytes([0, 21 << 3]) + b"\x01\0\0"
    await refuse(parts, blob, Digest.of(b""), "damaged zstd stream")


async def test_right_blob_and_wrong_diff_id_and_the_reverse(parts: Parts) -> None:
    data = good(a=b"x")
    wrong = Digest.of(b"another layer")
    await refuse(parts, gzip.compress(data, mtime=0), wrong, f"have the digest {Digest.of(data)}", DataLossError)
    blob = gzip.compress(data, mtime=0)
    digest = parts.content.add(blob)
    parts.content.blobs[digest] = gzip.compress(data, mtime=1)  # the same layer, in other bytes
    with pytest.raises(DataLossError, match=f"blob {digest} is damaged"):
        await finished(parts.layers.apply(Descriptor(OCI_LAYER_GZIP, digest, len(blob)), Digest.of(data)))


@functools.cache
def bomb(total: int, compression: str, where: str) -> bytes:
    """Return a blob of so many zeros, in one file or after the archive's end."""
    head, piece = header(size=b"%011o\0" % total) if where == "in a file" else archive(), bytes(1 << 20)
    squeeze = zlib.compressobj(9, wbits=31) if compression == "gzip" else zstandard.ZstdCompressor().compressobj()
    packed = [squeeze.compress(head)]
    packed += [squeeze.compress(piece) for _ in range(total >> 20)]
    return b"".join([*packed, squeeze.flush()])


BOMBS = [(compression, where) for compression in ("gzip", "zstd") for where in ("in a file", "after the end")]
WORDS = {"in a file": "bytes of files, at entry b'f'", "after the end": "inflates to more than 67108864 bytes"}


@pytest.mark.parametrize(("compression", "where"), BOMBS)
async def test_a_small_blob_that_inflates_to_much_is_stopped(parts: Parts, compression: str, where: str) -> None:
    await refuse(parts, bomb(160 << 20, compression, where), Digest.of(b"bomb"), WORDS[where])


@pytest.mark.parametrize("layer_format", list(LayerFormat))
@pytest.mark.parametrize(("compression", "where"), BOMBS)
def test_what_inflates_to_much_is_never_in_memory(
    tmp_path: Path, layer_format: LayerFormat, compression: str, where: str
) -> None:
    blob = bomb(160 << 20, compression, where)
    (tmp_path / "blob").write_bytes(blob)
    for name in ("target", "trash"):
        (tmp_path / name).mkdir()
    target = tmp_path / "target" / ("image" if layer_format is LayerFormat.EROFS else "")
    limits = LayerLimits(total_bytes=1 << 30).of(len(blob))
    job = ApplyJob(Digest.of(blob), len(blob), "", layer_format.value, str(target), str(tmp_path / "trash"), limits)
    script = (
        "import sys; from pathlib import Path\n"
        "from snapshotter.workers.worker import run; from snapshotter.workers.job import ApplyJob\n"
        "print(run(ApplyJob.from_json(sys.argv[1]), 0)); print(Path('/proc/self/status').read_text())"
    )
    with (tmp_path / "blob").open("rb") as stdin:
        command = [sys.executable, "-c", script, job.to_json()]
        said = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=True).stdout
    assert said.startswith("Answer(")
    peak_kib = int(said.split("VmHWM:")[1].split()[0])
    assert peak_kib < 100 << 10


def test_limits_grow_with_the_blob_above_what_is_free() -> None:
    limits = LayerLimits(total_bytes=1 << 40)
    assert limits.of(10 << 20).total_bytes == 8 << 30  # so 10 MB never become 100 GB
    assert limits.of(100 << 20).total_bytes == 250 * (100 << 20)
    assert limits.of(1 << 40).total_bytes == 1 << 40


async def take(parts: Parts, blob: bytes, data: bytes) -> str:
    """Apply a layer and return its chain."""
    descriptor = Descriptor(OCI_LAYER_GZIP, parts.content.add(blob), len(blob))
    assert (await finished(parts.layers.apply(descriptor, Digest.of(data)))).done
    return await parts.layers.stack([Digest.of(data)])


async def test_gzip_in_several_members_with_padding_is_one_layer(parts: Parts) -> None:
    data = good(a=b"x" * 5000, b=b"y")
    members = [gzip.compress(data[start : start + 2000], mtime=0) for start in range(0, len(data), 2000)]
    chain = await take(parts, b"".join(members) + bytes(700), data)
    with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
        assert names(tree) == ["a", "b"]


async def test_zstd_with_skippable_frames_is_one_layer(parts: Parts) -> None:
    data = good(a=b"x" * 5000, b=b"y")
    skippable = struct.pack("<II", 0x184D2A53, 5) + b"aside"
    frames = [zstandard.ZstdCompressor().compress(part) for part in (data[:3000], data[3000:])]
    chain = await take(parts, skippable + frames[0] + skippable + frames[1] + skippable, data)
    with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
        assert (tree / "a").read_text() == "x" * 5000


ODD = {
    "year 0": (archive(pax(record(b"mtime", b"-62167219200")), header(b"f")), 0),
    "year 9999": (archive(pax(record(b"mtime", b"253402300799")), header(b"f")), 0),
    "base 256": (archive(header(b"f", mtime=base256(1 << 70))), 0),
    "before 1970": (archive(header(b"f", mtime=base256(-100))), -100),
    "year 2200": (archive(pax(record(b"mtime", b"7258118400.5")), header(b"f")), 7258118400),
}


@pytest.mark.parametrize("case", ODD)
async def test_odd_times_are_kept_or_none(parts: Parts, case: str) -> None:
    data, seconds = ODD[case]
    chain = await take(parts, gzip.compress(data), data)
    with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
        assert int((tree / "f").stat().st_mtime) == seconds


async def test_4096_folders_in_each_other_are_made_and_removed(parts: Parts) -> None:
    data = deep()
    chain = await take(parts, gzip.compress(data), data)
    with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
        fd = os.open(tree, os.O_RDONLY)
        levels = 0
        while "d" in os.listdir(fd):
            inner = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd, levels = inner, levels + 1
        os.close(fd)
        assert levels == 4096
    await parts.snapshots.remove("web")
    await parts.layers.unstack([[chain]])
    await parts.snapshots.cleanup()
    assert list((parts.disk.root / "trash").iterdir()) == []


async def test_a_link_of_4000_bytes_is_kept_and_one_through_it_resolved(parts: Parts) -> None:
    target = b"./" * 1995 + b"real"
    data = archive(
        header(b"real", b"5", mode=b"0000755\0"),
        pax(record(b"linkpath", target)),
        header(b"l", b"2"),
        header(b"l/inside"),
    )
    chain = await take(parts, gzip.compress(data), data)
    with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
        assert os.fsencode(os.readlink(tree / "l")) == target
        assert (tree / "real/inside").exists()


async def test_a_chain_of_more_links_than_the_kernel_follows_is_refused(parts: Parts) -> None:
    links = [header(b"l%d" % number, b"2", link=b"l%d" % (number + 1)) for number in range(60)]
    data = archive(*links, header(b"l60", b"5"), header(b"l0/inside"))
    await refuse(parts, gzip.compress(data), Digest.of(data), "entry 'l0/inside': links at")


async def test_names_of_any_bytes_are_kept(parts: Parts) -> None:
    odd = [b"\xff\xfe", b"new\nline", b"\x1b[31m", b"n" * 255, "käse".encode()]
    data = archive(*(pax(record(b"path", name)) + header() for name in odd))
    chain = await take(parts, gzip.compress(data), data)
    with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
        assert sorted(os.listdir(os.fsencode(tree))) == sorted(odd)


async def test_what_comes_last_of_a_name_wins(parts: Parts) -> None:
    data = archive(
        header(b"a", b"5"), header(b"a/x"), header(b"a"), header(b"a", b"5", mode=b"0000700\0"), header(b"a/y"),
        header(b"b"), header(b"b", b"2", link=b"a"), header(b"b", mode=b"0000600\0"),
    )  # fmt: skip
    chain = await take(parts, gzip.compress(data), data)
    with shown(await parts.snapshots.prepare("web", chain, {})) as tree:
        assert names(tree) == ["a", "a/y", "b"]
        assert stat.S_IMODE((tree / "b").stat().st_mode) == 0o600


async def test_a_converter_out_of_memory_is_that_layers_error_alone(parts: Parts) -> None:
    data = good(a=os.urandom(8 << 20))
    # The second member needs 32 MiB to be read.
    needy = lzma.compress(data[8 << 20 :], filters=[{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 32 << 20}])
    blob = lzma.compress(data[: 8 << 20], preset=0) + needy
    descriptor = Descriptor(OCI_LAYER_GZIP, parts.content.add(blob), len(blob))
    limited = False

    async def limit(offset: int) -> None:
        nonlocal limited
        for pid in workers() if offset >= 2 << 20 else ():  # it is there by then: no buffer holds so much
            resource.prlimit(pid, resource.RLIMIT_DATA, (1 << 20, 1 << 20))
            limited = True

    parts.content.before_piece = limit  # type: ignore[method-assign]
    with pytest.raises(Exception, match=r"out of memory|no answer|killed|can't start new thread"):
        await finished(parts.layers.apply(descriptor, Digest.of(data)))
    assert limited
    parts.content.before_piece = FakeContent().before_piece  # type: ignore[method-assign]
    assert (await finished(parts.layers.apply(descriptor, Digest.of(data)))).done
    assert await Kit(parts).apply(good(b=b"1"))
