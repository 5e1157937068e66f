import asyncio

import pytest

from crid.streaming.upgrade import (
    MAX_HEAD_BYTES,
    Head,
    NoCommonProtocolError,
    negotiate_spdy,
    read_head,
    refusal,
    switching,
)
from sampan.errors import InvalidArgumentError, NotFoundError

# As client-go 0.37 sends it.
SPDY_HEAD = (
    b"POST /exec/FP3R39hMLge0zOd1WPXG5gma47_fEEpaY3S3I2gLPz0 HTTP/1.1\r\nHost: 127.0.0.1:52767\r\n"
    b"User-Agent: Go-http-client/1.1\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
    b"X-Stream-Protocol-Version: v5.channel.k8s.io\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n"
    b"X-Stream-Protocol-Version: v3.channel.k8s.io\r\n\r\n"
)


async def parse(data: bytes) -> Head | None:
    reader = asyncio.StreamReader(limit=MAX_HEAD_BYTES)
    reader.feed_data(data)
    reader.feed_eof()
    return await read_head(reader)


async def test_head_of_a_real_client_is_read() -> None:
    head = await parse(SPDY_HEAD)
    assert head is not None
    assert (head.method, head.path) == ("POST", "/exec/FP3R39hMLge0zOd1WPXG5gma47_fEEpaY3S3I2gLPz0")
    assert head.upgrades_to("SPDY/3.1")
    assert not head.upgrades_to("websocket")
    offered = ("v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io")
    assert head.values("x-stream-protocol-version") == offered
    assert negotiate_spdy(head, ("v3.channel.k8s.io", "v4.channel.k8s.io")) == "v4.channel.k8s.io"


async def test_list_in_one_field_is_as_good_as_several_fields_and_the_query_means_nothing() -> None:
    head = await parse(
        b"GET /attach/t?command=x HTTP/1.1\r\nconnection: keep-alive, Upgrade\r\nupgrade: spdy/3.1\r\n"
        b"x-stream-protocol-version: a , b,,c\r\n\r\n"
    )
    assert head is not None
    assert head.path == "/attach/t"
    assert head.upgrades_to("SPDY/3.1")
    assert head.values("X-Stream-Protocol-Version") == ("a", "b", "c")


async def test_client_without_a_request_is_none() -> None:
    assert await parse(b"") is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GET /x HTTP/1.1\r\nHost: a\r\n", "ends within its head"),
        (b"GET /x HTTP/1.1\r\n" + b"a: " + b"b" * MAX_HEAD_BYTES, "more than 32768 bytes"),
        (b"GET x HTTP/1.1\r\n\r\n", "malformed"),
        (b"GET /x HTTP/1.0\r\n\r\n", "malformed"),
        (b"GET /x HTTP/1.1\r\nno colon\r\n\r\n", "malformed"),
        (b"GET /x HTTP/1.1\r\nHost : a\r\n\r\n", "malformed"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", "malformed"),
        (b"DELETE /x HTTP/1.1\r\n\r\n", "DELETE is not served"),
        (b"POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "has no body"),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "has no body"),
    ],
)
async def test_bad_request_is_refused_with_its_reason(data: bytes, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        await parse(data)


async def test_client_with_no_protocol_of_ours_learns_which_there_are() -> None:
    head = await parse(SPDY_HEAD)
    assert head is not None
    with pytest.raises(
        NoCommonProtocolError, match=r"client supports v5.channel.k8s.io, .* server accepts v9"
    ) as refused:
        negotiate_spdy(head, ("v9", "v8"))
    answer = refusal(refused.value)
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert answer.count(b"X-Accepted-Stream-Protocol-Versions: v") == 2


def test_refusal_is_an_answer_of_its_kind() -> None:
    answer = refusal(NotFoundError("nothing here"))
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert answer.endswith(
        b"\r\nContent-Length: 13\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\nnothing here\n"
    )


def test_upgrade_names_the_protocol() -> None:
    assert switching("SPDY/3.1", (("X-Stream-Protocol-Version", "v4"),)) == (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"
        b"X-Stream-Protocol-Version: v4\r\n\r\n"
    )
