import io
import tarfile

import pytest

from sampan.tar.entry import Entry, EntryType
from sampan.tar.writer import TarWriter


def written(*entries: Entry) -> bytes:
    output = io.BytesIO()
    writer = TarWriter(output.write)
    for entry in entries:
        writer.add(entry)
        writer.data(bytes(entry.size))
    writer.close()
    return output.getvalue()


def checksum(header: bytes) -> int:
    """As POSIX has it: the sum of all bytes, those of the checksum itself counted as spaces."""
    return sum(header[:148] + b" " * 8 + header[156:])


@pytest.mark.parametrize("byte", [b"\x01", b"a", b"\xff"])
@pytest.mark.parametrize("kind", [EntryType.FILE, EntryType.DIRECTORY, EntryType.SYMLINK, EntryType.CHAR_DEVICE])
def test_every_header_has_the_sum_of_its_bytes(byte: bytes, kind: EntryType) -> None:
    link = byte * 100 if kind is EntryType.SYMLINK else b""
    largest = 0o7777777
    entry = Entry(byte * 99, kind, 0o7777, largest, largest, 0, (8**11 - 1) * 10**9, link, (largest, largest))

    archive = written(entry)

    headers = [archive[at : at + 512] for at in range(0, len(archive), 512) if archive[at + 257 : at + 262] == b"ustar"]
    assert headers
    assert [int(header[148:154], 8) for header in headers] == [checksum(header) for header in headers]


def test_an_archive_reads_as_it_was_written() -> None:
    file = Entry(b"app/" + b"long" * 40, EntryType.FILE, 0o640, 5, 2**22, 1000, 1_700_000_000_123_456_789)
    link = Entry(b"app/link", EntryType.SYMLINK, 0o777, 0, 0, 0, 0, b"target")
    device = Entry(b"dev/null", EntryType.CHAR_DEVICE, 0o666, 0, 0, 0, 0, b"", (1, 3))

    with tarfile.open(fileobj=io.BytesIO(written(file, link, device))) as archive:
        first, second, third = archive.getmembers()

    assert (first.name, first.mode, first.uid, first.gid, first.size) == (file.name.decode(), 0o640, 5, 2**22, 1000)
    assert first.pax_headers["mtime"] == "1700000000.123456789"
    assert (second.name, second.linkname, second.issym()) == ("app/link", "target", True)
    assert (third.devmajor, third.devminor, third.ischr()) == (1, 3, True)
