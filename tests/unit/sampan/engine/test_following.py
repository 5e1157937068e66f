"""Where the reading of a log goes on after its service was gone."""

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan.engine.following import _LogPlace


def answer(*entries: tuple[int, bytes]) -> pb.LogsResponse:
    return pb.LogsResponse(
        entries=[
            pb.LogEntry(stream=pb.Frame.STDOUT, time=Timestamp(seconds=nanos // 10**9, nanos=nanos % 10**9), line=line)
            for nanos, line in entries
        ]
    )


def lines(read: pb.LogsResponse) -> list[bytes]:
    return [entry.line for entry in read.entries]


def reread(log: list[tuple[int, bytes]], request: pb.LogsRequest) -> pb.LogsResponse:
    """Return what a service sends for ``request``."""
    since = request.since.ToNanoseconds()
    return answer(*(entry for entry in log if entry[0] >= since))


def test_lines_of_one_time_are_told_once() -> None:
    log = [(10, b"a"), (20, b"b"), (20, b"c"), (20, b"d"), (30, b"e")]
    place = _LogPlace(pb.LogsRequest(container="c", follow=True))
    assert lines(place.new(answer(*log[:2]))) == [b"a", b"b"]
    assert lines(place.new(answer(log[2]))) == [b"c"]
    again = place.rest()
    assert (again.container, again.follow, again.since.ToNanoseconds()) == ("c", True, 20)
    assert lines(place.new(reread(log, again))) == [b"d", b"e"]
    assert place.rest().since.ToNanoseconds() == 30
    assert lines(place.new(answer((30, b"e"), (30, b"f")))) == [b"f"]
    assert place.rest().since.ToNanoseconds() == 30
    assert lines(place.new(answer((30, b"e"), (30, b"f"), (31, b"g")))) == [b"g"]


def test_what_was_seen_is_left_out_even_if_it_comes_in_pieces() -> None:
    log = [(20, b"a"), (20, b"b"), (20, b"c")]
    place = _LogPlace(pb.LogsRequest())
    place.new(answer(*log[:2]))
    place.rest()
    assert lines(place.new(answer(log[0]))) == []
    assert lines(place.new(answer(log[1], log[2]))) == [b"c"]
    place.rest()
    assert lines(place.new(answer(*log))) == []


def test_the_last_lines_are_asked_for_once() -> None:
    place = _LogPlace(pb.LogsRequest(tail=5, follow=True))
    assert place.rest().tail == 5
    place.new(answer((20, b"a")))
    assert not place.rest().HasField("tail")
    assert place.rest().since.ToNanoseconds() == 20


def test_only_new_lines_stay_only_new_lines() -> None:
    place = _LogPlace(pb.LogsRequest(tail=0, follow=True))
    assert place.rest().HasField("tail")
    rest = place.rest()
    assert not rest.HasField("tail")
    assert rest.since.seconds > 0
