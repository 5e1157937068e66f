"""Where the reading of a log goes on after its service was gone."""

from sampan.engine.following import LogPlace
from sampan.resource.streams import LogBatch, LogEntry, LogQuery, Stream


def answer(*entries: tuple[int, bytes]) -> LogBatch:
    return LogBatch([LogEntry(Stream.STDOUT, time_ns, line) for time_ns, line in entries])


def lines(read: LogBatch) -> list[bytes]:
    return [entry.line for entry in read.entries]


def reread(log: list[tuple[int, bytes]], query: LogQuery) -> LogBatch:
    """Return what a service sends for ``query``."""
    return answer(*(entry for entry in log if entry[0] >= query.since_ns))


def test_lines_of_one_time_are_told_once() -> None:
    log = [(10, b"a"), (20, b"b"), (20, b"c"), (20, b"d"), (30, b"e")]
    place = LogPlace(LogQuery(follow=True))
    assert lines(place.new(answer(*log[:2]))) == [b"a", b"b"]
    assert lines(place.new(answer(log[2]))) == [b"c"]
    again = place.rest()
    assert (again.follow, again.since_ns) == (True, 20)
    assert lines(place.new(reread(log, again))) == [b"d", b"e"]
    assert place.rest().since_ns == 30
    assert lines(place.new(answer((30, b"e"), (30, b"f")))) == [b"f"]
    assert place.rest().since_ns == 30
    assert lines(place.new(answer((30, b"e"), (30, b"f"), (31, b"g")))) == [b"g"]


def test_what_was_seen_is_left_out_even_if_it_comes_in_pieces() -> None:
    log = [(20, b"a"), (20, b"b"), (20, b"c")]
    place = LogPlace(LogQuery())
    place.new(answer(*log[:2]))
    place.rest()
    assert lines(place.new(answer(log[0]))) == []
    assert lines(place.new(answer(log[1], log[2]))) == [b"c"]
    place.rest()
    assert lines(place.new(answer(*log))) == []


def test_the_last_lines_are_asked_for_once() -> None:
    place = LogPlace(LogQuery(tail=5, follow=True))
    assert place.rest().tail == 5
    place.new(answer((20, b"a")))
    assert place.rest().tail is None
    assert place.rest().since_ns == 20


def test_only_new_lines_stay_only_new_lines() -> None:
    place = LogPlace(LogQuery(tail=0, follow=True))
    assert place.rest().tail == 0
    rest = place.rest()
    assert rest.tail is None
    assert rest.since_ns > 0
