import io
import random
import tarfile
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sampan.errors import InvalidArgumentError
from sampan.tar.entry import Entry, EntryType, Limits
from sampan.tar.pax import xattrs
from sampan.tar.reader import TarReader
from sampan.tar.writer import TarWriter


def archive(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, data: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


def read(data: bytes, limits: Limits | None = None) -> list[tuple[Entry, bytes]]:
    reader = TarReader(io.BytesIO(data), limits)
    return [(entry, b"".join(reader.data())) for entry in reader]


class Dribble:
    """A source that gives as little as it may."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, 7))


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_files_keep_their_bytes_and_attributes_in_every_format(format: int) -> None:
    name = "d" * 90 + "/" + "f" * 90
    data = archive(member(name, b"hello", mode=0o4755, uid=1000, gid=50, mtime=1234567890), format=format)
    ((entry, content),) = read(data)
    assert (entry.name, entry.type, content) == (name.encode(), EntryType.FILE, b"hello")
    assert (entry.mode, entry.uid, entry.gid) == (0o4755, 1000, 50)
    assert (entry.size, entry.mtime_ns) == (5, 1234567890 * 10**9)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_links_are_whole(format: int) -> None:
    name, link = "x/" * 500 + "end", "y/" * 400 + "target"
    data = archive(member(name, type=tarfile.SYMTYPE, linkname=link), format=format)
    ((entry, _),) = read(data)
    assert (entry.name, entry.link, entry.type) == (name.encode(), link.encode(), EntryType.SYMLINK)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_owners_up_to_the_largest_are_kept(format: int) -> None:
    ((entry, _),) = read(archive(member("f", uid=2**32 - 2, gid=3_000_000), format=format))
    assert (entry.uid, entry.gid) == (2**32 - 2, 3_000_000)


@pytest.mark.parametrize("owner", [2**32 - 1, 2**40, -5])
def test_owners_that_nobody_can_be_are_refused(owner: int) -> None:
    with pytest.raises(InvalidArgumentError, match="owner"):
        read(archive(member("f", uid=owner), format=tarfile.GNU_FORMAT))


def test_times_have_nanoseconds_and_may_be_before_the_epoch() -> None:
    info, data = member("f", b"")
    info.pax_headers = {"mtime": "-1.250000001"}
    ((entry, _),) = read(archive((info, data)))
    assert entry.mtime_ns == -1_250_000_001


def test_attributes_come_from_schily_records() -> None:
    info, data = member("f", b"")
    info.pax_headers = {"SCHILY.xattr.user.x": "value", "SCHILY.xattr.user.with=sign": "a=b\n"}
    ((entry, _),) = read(archive((info, data)))
    assert entry.xattrs["user.x"] == b"value"


def test_global_headers_are_skipped() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "abc"}) as tar:
        tar.addfile(tarfile.TarInfo("f"))
    assert [entry.name for entry, _ in read(buffer.getvalue())] == [b"f"]


def test_what_is_not_read_of_a_file_is_skipped() -> None:
    data = archive(member("a", b"1" * 1000), member("b", b"2" * 3000), member("c", b"3"))
    reader = TarReader(io.BytesIO(data))
    assert [entry.name for entry in reader] == [b"a", b"b", b"c"]


def test_a_source_that_gives_little_at_a_time_is_enough() -> None:
    data = archive(member("a" * 150, b"1" * 1000), member("b", b"2" * 3000))
    reader = TarReader(Dribble(data))
    assert [(entry.name, len(b"".join(reader.data()))) for entry in reader] == [(b"a" * 150, 1000), (b"b", 3000)]


def test_an_archive_without_an_end_mark_ends_with_its_source() -> None:
    data = archive(member("a", b"1"))
    assert [entry.name for entry, _ in read(data[:1024])] == [b"a"]


def test_an_archive_ends_as_well_where_its_last_file_does() -> None:
    """What the docker client sends for ``docker build -f - DIR`` has nothing behind the bytes of the Dockerfile."""
    data = archive(member("a", b"1" * 600), member("b", b"2" * 700))
    assert [(entry.name, content) for entry, content in read(data[: 512 + 1024 + 512 + 700])][-1] == (b"b", b"2" * 700)
    with pytest.raises(InvalidArgumentError, match="in the middle of a block"):
        read(data[: 512 + 1024 + 512 + 701])


@pytest.mark.parametrize("size", [100, 511, 513, 700, 1023])
def test_an_archive_cut_short_is_refused(size: int) -> None:
    with pytest.raises(InvalidArgumentError, match="ends in the middle"):
        read(archive(member("a", b"1" * 512))[:size])


def test_what_is_not_an_archive_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="checksum"):
        read(b"<html>" * 1000)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="unknown type"):
        read(archive(member("f", type=b"Q")))


def test_a_path_of_100000_components_is_refused_with_its_name() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'a/a/a.*100000 components, the most is 4095 bytes"):
        read(archive(member("a/" * 99_999 + "a")))


def test_a_component_longer_than_the_kernel_takes_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="component longer than 255"):
        read(archive(member("d/" + "x" * 256)))


def test_a_header_beyond_its_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidArgumentError, match="extension headers of"):
        read(archive(member("x" * 5000)), Limits(header_bytes=1000))


def test_entries_and_bytes_have_limits() -> None:
    data = archive(member("a", b"1" * 600), member("b", b"1" * 600))
    with pytest.raises(InvalidArgumentError, match="more than 1 entries"):
        read(data, Limits(entries=1))
    with pytest.raises(InvalidArgumentError, match="more than 1000 bytes"):
        read(data, Limits(total_bytes=1000))


def test_a_name_with_a_nul_is_refused() -> None:
    info, data = member("f", b"")
    info.pax_headers = {"path": "a\0b"}
    with pytest.raises(InvalidArgumentError, match="NUL"):
        read(archive((info, data)))


def test_a_regular_entry_whose_name_ends_in_a_slash_is_a_directory() -> None:
    ((entry, _),) = read(archive(member("d/", type=tarfile.REGTYPE), format=tarfile.USTAR_FORMAT))
    assert (entry.name, entry.type) == (b"d", EntryType.DIRECTORY)


@pytest.mark.parametrize("body", ["x", "5 a=b\n", "99 path=a\n", "8 path\n\n", "-8 pa=a\n", "0 path=a\n"])
def test_malformed_pax_headers_are_refused(body: str) -> None:
    raw = body.encode()
    header = tarfile.TarInfo("pax")
    header.type = tarfile.XHDTYPE
    header.size = len(raw)
    data = header.tobuf(tarfile.USTAR_FORMAT) + raw.ljust(512, b"\0") + tarfile.TarInfo("f").tobuf()
    with pytest.raises(InvalidArgumentError, match="pax header"):
        read(data)


ENTRIES = st.builds(
    Entry,
    name=st.binary(min_size=1, max_size=300)
    .map(lambda name: b"/".join(part[:255] for part in name.replace(b"\0", b"_").split(b"/")))
    .filter(lambda name: name.strip(b"/") == name and name),
    type=st.just(EntryType.FILE),
    mode=st.integers(0, 0o7777),
    uid=st.integers(0, 2**32 - 2),
    gid=st.integers(0, 2**32 - 2),
    size=st.just(0),
    mtime_ns=st.integers(-(2**60), 2**60),
    xattrs=st.dictionaries(st.sampled_from(["user.a", "user.b", "security.capability"]), st.binary(max_size=50)),
)


@given(st.lists(st.tuples(ENTRIES, st.binary(max_size=2000)), max_size=5))
@settings(max_examples=60)
def test_what_the_writer_writes_the_reader_reads(files: list[tuple[Entry, bytes]]) -> None:
    buffer = io.BytesIO()
    writer = TarWriter(buffer.write)
    written = []
    for entry, data in files:
        whole = Entry(**{name: getattr(entry, name) for name in Entry.__slots__} | {"size": len(data)})
        writer.add(whole)
        writer.data(data)
        written.append((whole, data))
    writer.close()
    assert read(buffer.getvalue()) == written
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue())) as tar:
        assert len(tar.getmembers()) == len(files)


def damaged() -> Iterator[bytes]:
    whole = archive(
        member("long" * 60, b"x" * 700),
        member("link", type=tarfile.SYMTYPE, linkname="t" * 200),
        member("dev", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    )
    dice = random.Random(7)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 12)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        yield bytes(data[: dice.randrange(len(data))] if dice.random() < 0.3 else data)


def test_damage_is_an_error_of_ours_or_does_no_harm() -> None:
    for data in damaged():
        try:
            read(data)
        except InvalidArgumentError:
            continue


def fix_checksum(header: bytearray) -> None:
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)


def test_damage_behind_a_right_checksum_is_an_error_of_ours_or_does_no_harm() -> None:
    dice = random.Random(11)
    whole = archive(member("f", b"x" * 700), format=tarfile.GNU_FORMAT)
    for _ in range(1500):
        header = bytearray(whole[:512])
        for _ in range(dice.randint(1, 6)):
            header[dice.randrange(512)] = dice.choice((0, 0xFF, 0x80, dice.randrange(256)))
        header[156] = dice.choice(b"0123456789SLKxgVMD\0")
        fix_checksum(header)
        try:
            read(bytes(header) + whole[512:])
        except InvalidArgumentError:
            continue


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("", b"x", "names have 1 to 255 bytes"), ("user.a\0b", b"x", "no NUL"), ("user.x", bytes(65537), "the most is")],
)
def test_attribute_that_no_file_system_can_have_is_refused(name: str, value: bytes, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        xattrs({f"SCHILY.xattr.{name}": value})
