"""What receivers get, from sockets of their own; and what becomes of output while they are away."""

import asyncio
import gzip
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgpack
import pytest

from runtimed.logs.drivers.choice import look_for_receiver, make_driver
from runtimed.logs.drivers.driver import Shipping
from runtimed.logs.drivers.journald import Journald, field_name
from runtimed.logs.shipping import Shipper
from runtimed.logs.spool import Cursor, next_run

OUT = b"2026-11-24T04:00:52.786240777+00:00 stdout F said"
ERR = b"2026-11-24T04:00:53.000000001+00:00 stderr F cried"
PIECE = b"2026-11-24T04:00:53.000000001+00:00 stdout P part\xff"


def plan(driver: str, options: Mapping[str, str], buffer_bytes: int = 0) -> Shipping:
    container = {"id": "a" * 64, "name": "web", "image_id": "sha256:1", "image_name": "nginx", "command": "sh -c x"}
    attributes = {"tier": "front"}
    return Shipping(driver, options, "mark", attributes, {**container, "created": "2026"}, "host", buffer_bytes)


@pytest.fixture
def datagrams() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(60)
        yield receiver


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        yield server


def address(receiver: socket.socket) -> str:
    return f"127.0.0.1:{receiver.getsockname()[1]}"


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("rfc5424", r"<30>1 2026-11-24T04:00:52Z host mark PID mark - said"),
        ("rfc5424micro", r"<30>1 2026-11-24T04:00:52.786240Z host mark PID mark - said"),
    ],
)
def test_syslog_messages_are_dockerds(datagrams: socket.socket, form: str, expected: str) -> None:
    driver = make_driver(plan("syslog", {"syslog-address": f"udp://{address(datagrams)}", "syslog-format": form}))
    driver.send([OUT, ERR])
    first, second = (datagrams.recv(9000).decode() for _ in range(2))
    pid = first.split()[4]
    assert pid.isdecimal()
    assert first == expected.replace("PID", pid) + "\n"
    assert second.startswith("<27>1 ")
    driver.abort()


def test_syslog_over_tcp_is_lines(listener: socket.socket) -> None:
    options = {"syslog-address": f"tcp://{address(listener)}", "syslog-format": "rfc3164", "syslog-facility": "local0"}
    driver = make_driver(plan("syslog", options))
    driver.send([OUT, OUT])
    with listener.accept()[0] as accepted:
        text = accepted.recv(9000).decode()
    assert text.startswith("<134>Nov 24 ")
    assert text.count(" host mark[") == 2
    assert text.endswith("]: said\n")
    driver.abort()


@pytest.mark.parametrize("path_kind", ["unix", "unixgram"])
def test_syslog_over_a_unix_socket(tmp_path: Path, path_kind: str) -> None:
    path = str(tmp_path / "log")
    kind = socket.SOCK_STREAM if path_kind == "unix" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_UNIX, kind) as receiver:
        receiver.bind(path)
        if path_kind == "unix":
            receiver.listen()
        driver = make_driver(plan("syslog", {"syslog-address": f"{path_kind}://{path}"}))
        driver.send([ERR])
        source = receiver.accept()[0] if path_kind == "unix" else receiver
        assert source.recv(9000).startswith(b"<27>Nov 24 ")
        driver.abort()
        if source is not receiver:
            source.close()


@pytest.mark.parametrize(
    ("kind", "unpack"), [("gzip", gzip.decompress), ("zlib", zlib.decompress), ("none", lambda data: data)]
)
def test_gelf_datagrams(datagrams: socket.socket, kind: str, unpack: Callable[[bytes], bytes]) -> None:
    options = {"gelf-address": f"udp://{address(datagrams)}", "gelf-compression-type": kind}
    driver = make_driver(plan("gelf", options))
    driver.send([ERR])
    message = json.loads(unpack(datagrams.recv(9000)))
    assert (message["version"], message["short_message"], message["level"]) == ("1.1", "cried", 3)
    assert (message["timestamp"], message["_tier"], message["_tag"]) == (1795492853.0, "front", "mark")
    assert (message["_container_id"], message["_container_name"]) == ("a" * 64, "web")
    driver.abort()


def test_gelf_datagrams_that_are_large_come_in_chunks(datagrams: socket.socket) -> None:
    options = {"gelf-address": f"udp://{address(datagrams)}", "gelf-compression-type": "none"}
    driver = make_driver(plan("gelf", options))
    driver.send([OUT + b"x" * 5000])
    chunks = [datagrams.recv(9000) for _ in range(4)]
    assert [chunk[:2] + chunk[10:12] for chunk in chunks] == [b"\x1e\x0f" + bytes((n, 4)) for n in range(4)]
    assert json.loads(b"".join(chunk[12:] for chunk in chunks))["short_message"] == "said" + "x" * 5000
    driver.abort()


def test_gelf_over_tcp_ends_each_message(listener: socket.socket) -> None:
    driver = make_driver(plan("gelf", {"gelf-address": f"tcp://{address(listener)}"}))
    driver.send([OUT, ERR])
    with listener.accept()[0] as accepted:
        messages = accepted.recv(90000).split(b"\0")
    assert [json.loads(message)["short_message"] for message in messages[:2]] == ["said", "cried"]
    assert messages[2:] == [b""]
    driver.abort()


def test_fluentd_gets_events(listener: socket.socket) -> None:
    options = {"fluentd-address": address(listener), "fluentd-sub-second-precision": "true"}
    driver = make_driver(plan("fluentd", options))
    driver.send([OUT, PIECE])
    with listener.accept()[0] as accepted:
        unpacker = msgpack.Unpacker(unicode_errors="surrogateescape")
        unpacker.feed(accepted.recv(90000))
        (tag, time, event), (_, _, piece) = list(unpacker)
    assert (tag, time.code, time.data[4:]) == ("mark", 0, (786240777).to_bytes(4, "big"))
    assert event == {
        "container_id": "a" * 64,
        "container_name": "/web",
        "source": "stdout",
        "log": "said",
        "tier": "front",
    }
    assert (piece["log"], piece["partial_message"]) == ("part\udcff", "true")
    driver.abort()


@pytest.mark.parametrize("answers", [True, False])
def test_fluentd_is_waited_for_if_it_shall_acknowledge(listener: socket.socket, answers: bool) -> None:
    driver = make_driver(plan("fluentd", {"fluentd-address": address(listener), "fluentd-request-ack": "true"}))

    def receive() -> None:
        with listener.accept()[0] as accepted:
            message = msgpack.unpackb(accepted.recv(90000))
            accepted.sendall(msgpack.packb({"ack": message[2]["chunk"] if answers else "other"}))

    receiver = threading.Thread(target=receive)
    receiver.start()
    if answers:
        driver.send([OUT, ERR])
    else:
        with pytest.raises(OSError, match="fluentd answered"):
            driver.send([OUT, ERR])
    receiver.join()
    driver.abort()


def test_the_journal_gets_fields_and_large_entries_as_files(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(path)
        driver = Journald(plan("journald", {}), path)
        driver.send([OUT, PIECE])
        first, second = journal.recv(9000).split(b"\n"), journal.recv(9000).split(b"\n")
        assert first[:2] == [b"MESSAGE=said", b"PRIORITY=6"]
        assert {b"CONTAINER_NAME=web", b"CONTAINER_TAG=mark", b"TIER=front", b"SYSLOG_IDENTIFIER=mark"} <= set(first)
        assert b"CONTAINER_PARTIAL_MESSAGE=true" in second
        driver.abort()
    assert [field_name(key) for key in ("com.example.Tier", "_x", "9")] == ["COM_EXAMPLE_TIER", "X", ""]


def test_a_receiver_that_is_away_is_named_at_the_start(listener: socket.socket) -> None:
    where = address(listener)
    look_for_receiver("fluentd", {"fluentd-address": where}, 1)
    listener.close()
    for driver, options in (
        ("fluentd", {"fluentd-address": where}),
        ("syslog", {"syslog-address": f"tcp://{where}"}),
        ("gelf", {"gelf-address": f"tcp://{where}"}),
    ):
        with pytest.raises(OSError, match="dial tcp") as failed:
            look_for_receiver(driver, options, 1)
        before = f"gelf: cannot connect to GELF endpoint: {where} " if driver == "gelf" else ""
        assert failed.value.strerror == f"{before}dial tcp {where}: connect: connection refused"
    look_for_receiver("fluentd", {"fluentd-address": where, "fluentd-async": "true"}, 1)
    look_for_receiver("gelf", {"gelf-address": f"udp://{where}"}, 1)


def _spooled(spool: Path, count: int) -> None:
    with next_run(spool).open("wb") as file:
        for number in range(count):
            file.write(b"2026-11-24T04:00:00.000000000+00:00 stdout F %d\n" % number)


async def test_what_waits_is_sent_when_the_receiver_comes_back(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        where = first.getsockname()
    _spooled(tmp_path, 3000)
    warnings: list[str] = []
    cursor = Cursor(tmp_path, tmp_path / "shipped")
    options = {"syslog-address": f"tcp://127.0.0.1:{where[1]}"}
    shipper = Shipper("id", cursor, plan("syslog", options), lambda _, text: warnings.append(text), lambda: None)
    shipper.wake(ended=True)
    async with asyncio.timeout(60):
        while not warnings:  # noqa: ASYNC110  # another thread says nothing
            await asyncio.sleep(0.01)
    received = bytearray()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):  # another thread says nothing
            received.extend(piece)
        writer.close()

    async with await asyncio.start_server(receive, *where, reuse_address=True), asyncio.timeout(60):
        while received.count(b"\n") < 3000 or cursor.position.ended < 1:  # noqa: ASYNC110  # another thread says nothing
            await asyncio.sleep(0.02)
    await asyncio.to_thread(shipper.close)
    assert [int(line.rsplit(b" ", 1)[1]) for line in received.splitlines()] == list(range(3000))
    assert len(warnings) == 1


async def test_without_blocking_the_oldest_goes_while_a_receiver_is_away(tmp_path: Path) -> None:
    _spooled(tmp_path, 20_000)
    warnings: list[str] = []
    cursor = Cursor(tmp_path, tmp_path / "shipped")
    away = plan("syslog", {"syslog-address": "unix:///nowhere/at/all"}, buffer_bytes=10_000)
    shipper = Shipper("id", cursor, away, lambda _, text: warnings.append(text), lambda: None)
    shipper.wake(ended=True)
    async with asyncio.timeout(60):
        while not any("not sent" in text for text in warnings):  # noqa: ASYNC110  # another thread says nothing
            await asyncio.sleep(0.01)
    assert cursor.backlog_bytes <= 10_000
    await asyncio.to_thread(shipper.close)


async def test_output_goes_after_as_many_tries_as_the_options_allow(tmp_path: Path) -> None:
    _spooled(tmp_path, 30)
    warnings: list[str] = []
    cursor = Cursor(tmp_path, tmp_path / "shipped")
    options = {"fluentd-address": "unix:///nowhere/at/all", "fluentd-max-retries": "2", "fluentd-retry-wait": "1ms"}
    shipper = Shipper("id", cursor, plan("fluentd", options), lambda _, text: warnings.append(text), lambda: None)
    shipper.wake(ended=True)
    async with asyncio.timeout(60):
        while cursor.position.ended < 1:  # noqa: ASYNC110  # another thread says nothing
            await asyncio.sleep(0.01)
    await asyncio.to_thread(shipper.close)
    assert [text for text in warnings if "not sent" in text] == ["30 lines were not sent: 3 tries have failed"]


def test_fluentd_that_does_not_answer_in_its_time_is_away(listener: socket.socket) -> None:
    options = {"fluentd-address": address(listener), "fluentd-request-ack": "true", "fluentd-read-timeout": "50ms"}
    driver = make_driver(plan("fluentd", options))
    with pytest.raises(TimeoutError):
        driver.send([OUT])
    driver.abort()
