"""The receiver's end of fsutil's packets: entries and contents in, requests out. Works in threads.

Where a record says what was told last time, runs of entries that are told in the same words are passed over.

Reference: tonistiigi/fsutil, ``receive.go``.
"""

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from sampan.api.buildkit.session.v1 import fsutil_pb2 as pb
from sampan.errors import RemoteError
from sampan.fsutil.entry import Entry, mode_from_go
from sampan.fsutil.receiver import SyncReport, TreeReceiver
from sampan.fsutil.record import NO_FILE, NewRecord, WalkRecord
from sampan.sys.trees import Stop

STAT: Final = pb.Packet.PACKET_STAT
REQ: Final = pb.Packet.PACKET_REQ
DATA: Final = pb.Packet.PACKET_DATA
FIN: Final = pb.Packet.PACKET_FIN
ERR: Final = pb.Packet.PACKET_ERR

FINISHED: Final = pb.Packet(type=FIN).SerializeToString()

_FEW: Final = 8  # are looked at as if nothing was known of them: to pass over them takes no less


class Receiving:
    """One transfer into a directory; ``close`` it."""

    def __init__(
        self, into: Path, stop: Stop, *, compare: bool = True, merge: bool = False, record: Path | None = None
    ) -> None:
        """``record`` is where what the sender tells is kept for the next transfer; else as ``TreeReceiver``."""
        self._into = into
        self._record = record
        found = WalkRecord.take(record, into) if record is not None else None
        if found is not None and not compare:
            found.close()
            found = None
        try:
            self._tree = TreeReceiver(into, compare=compare, merge=merge, stop=stop)
        except BaseException:
            if found is not None:
                found.close()
            raise
        self._known = _Known(self._tree, found) if record is not None else None
        self.report: SyncReport | None = None  # once all is here
        self.over = False  # the sender knows it too

    def close(self) -> None:
        """Let go, whatever happened."""
        self._tree.close()
        if self._known is not None:
            self._known.close()

    def feed(self, messages: Sequence[bytes]) -> list[bytes]:
        """Take packets, and return those that answer them."""
        tree, known, parse = self._tree, self._known, pb.Packet.FromString
        position = 0
        while position < len(messages):
            if known is not None and (same := known.same(messages, position)):
                position += same
                continue
            message = messages[position]
            position += 1
            try:
                packet = parse(message)
            except DecodeError as error:
                raise RemoteError("files come in packets that are none") from error
            kind = packet.type
            if kind == STAT:
                if packet.HasField("stat"):
                    entry = decoded(packet.stat)
                    if known is not None:
                        known.differs(entry, message)
                    tree.add(entry)
                else:
                    if known is not None:
                        known.end()
                    tree.end_of_entries()
            elif kind == DATA:
                tree.put(packet.ID, packet.data)
            elif kind == FIN:
                if self.report is None:
                    raise RemoteError("the other side says that it has sent all files, and has not")
                self.over = True
            elif kind == ERR:
                raise RemoteError(f"error from sender: {packet.data.decode(errors='replace')}")
        answers = [pb.Packet(type=REQ, ID=number).SerializeToString() for number in tree.take_requests()]
        if self.report is None and tree.complete:
            self.report = tree.finish()
            if known is not None and self._record is not None:
                known.save(self._record, self._into)
            answers.append(FINISHED)
        return answers


class _Known:
    """What a record says of the entries that come, and the record that comes of them."""

    def __init__(self, tree: TreeReceiver, record: WalkRecord | None) -> None:
        self._tree = tree
        self._record = record
        self._first = self._next = 0  # of the record: what is the same and not passed over yet, what is expected
        self._same = True  # all that was told so far
        self._ended = False
        self._new = NewRecord()

    def close(self) -> None:
        if self._record is not None:
            self._record.close()

    def same(self, messages: Sequence[bytes], position: int) -> int:
        """Return how many messages tell what the record says, and pass over those, now or later."""
        if self._record is None or self._ended:
            return 0
        same = self._record.same(self._next, messages, position)
        self._next += same
        return same

    def differs(self, entry: Entry, message: bytes) -> None:
        """Take note of an entry that is told in other words than the record's; what follows may be the same again."""
        self._same = False
        self._pass_over()
        if self._record is not None:
            place = _order(entry.path)
            # What comes before it is not told any more, and itself is told anew.
            while self._next < self._record.count and _told_path(self._record.message(self._next)) <= place:
                self._next += 1
            self._first = self._next
        if entry.link and not stat.S_ISLNK(entry.mode):
            self._new.spoil()  # which files are one is seen in the files alone
        self._new.add(message, entry.size if stat.S_ISREG(entry.mode) else NO_FILE)

    def end(self) -> None:
        """Take note that no entry follows."""
        self._same &= self._record is not None and self._next == self._record.count
        self._pass_over()
        self._ended = True

    def save(self, path: Path, directory: Path) -> None:
        """Keep what was told; the directory is that now."""
        if self._record is not None and self._same:
            self._record.give_back(path)
        elif self._tree.as_told:
            self._new.save(path, directory)

    def _pass_over(self) -> None:
        record, first, last = self._record, self._first, self._next
        if record is None or first == last:
            return
        self._first = last
        if last - first < _FEW:
            for index in range(first, last):
                self._tree.add(_told(record.message(index)))
        else:
            self._tree.pass_over(
                _told(record.message(first)), _told(record.message(last - 1)), record.totals(first, last)
            )
        if not self._same:
            record.copy(self._new, first, last)


def _told(message: bytes) -> Entry:
    return decoded(pb.Packet.FromString(message).stat)


def _told_path(message: bytes) -> bytes:
    try:
        return _order(pb.Packet.FromString(message).stat.path)
    except DecodeError:  # the disk has damaged it, so that nothing follows that is the same
        return b""


def _order(path: bytes) -> bytes:
    """Return what sorts as the walk goes: a directory comes before what is in it, and that before the next name."""
    return path.replace(b"/", b"\0")


def decoded(found: pb.Stat) -> Entry:
    """Return what a message says of an entry. Raises InvalidArgumentError for a type that no file has."""
    return Entry(
        found.path,
        mode_from_go(found.mode),
        found.size,
        found.modTime,
        found.linkname,
        found.devmajor,
        found.devminor,
        dict(found.xattrs) if found.xattrs else None,
    )
