import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from sampan.layout import Layout
from sampan.metrics.exposition import Exposition, Render, new_metrics

FAMILY = "# HELP one_bytes One.\n# TYPE one_bytes gauge\none_bytes 1\n"
OTHER = "# HELP two_bytes Two.\n# TYPE two_bytes gauge\ntwo_bytes 2\n"

Serve = Callable[..., str]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve renders at an address, until the test is over."""
    served: list[Exposition] = []

    def start(*series: Render) -> str:
        layout = Layout(tmp_path / "d", tmp_path / "r")
        served.append(Exposition(new_metrics(), series, "127.0.0.1:0", "runtimed", layout))
        return served[-1].address

    yield start
    for exposition in served:
        exposition.close()


def get(address: str, query: str = "", **headers: str) -> bytes:
    with urlopen(Request(f"http://{address}/metrics{query}", headers=headers)) as answer:
        body: bytes = answer.read()
        return gzip.decompress(body) if answer.headers["Content-Encoding"] == "gzip" else body


def test_series_follow_what_describes_the_process(serve: Serve) -> None:
    body = get(serve(lambda: [FAMILY, OTHER]))
    assert b"process_resident_memory_bytes" in body
    assert body.endswith(f"{FAMILY}{OTHER}".encode())


def test_answer_is_packed_for_who_takes_it(serve: Serve) -> None:
    address = serve(lambda: [FAMILY])
    assert get(address, **{"Accept-Encoding": "gzip"}).endswith(FAMILY.encode())


def test_it_is_served_at_a_socket_that_was_passed_and_knows_when_it_was_asked(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "d", tmp_path / "r")
    with socket.create_server(("127.0.0.1", 0)) as held:
        exposition = Exposition(new_metrics(), [lambda: [FAMILY]], "off", "buildd", layout, passed=held.dup())
        assert exposition.asked_at == 0
        assert exposition.address == f"127.0.0.1:{held.getsockname()[1]}"
        assert get(exposition.address).endswith(FAMILY.encode())
        assert exposition.asked_at > 0
        exposition.close()
        with socket.create_connection(held.getsockname()):  # waits for the next one
            pass


def test_families_can_be_chosen(serve: Serve) -> None:
    assert get(serve(lambda: [FAMILY, OTHER]), "?name[]=two_bytes") == OTHER.encode()


def test_half_a_surrogate_pair_does_not_spoil_the_answer(serve: Serve) -> None:
    assert b'{a="?"}' in get(serve(lambda: ['# HELP x y\nx{a="\ud800"} 1\n']))


def test_what_is_written_waits_for_who_reads_and_others_are_answered(serve: Serve) -> None:
    """A scrape that nobody reads neither fills memory nor stands in the way; a fifth one at a time is refused."""
    begun = threading.Semaphore(0)
    rendered: list[int] = []

    def endless() -> Iterator[str]:
        begun.release()
        for number in range(1000):
            rendered.append(number)
            yield "x" * (1 << 20)

    calls = iter([endless, endless, endless, lambda: iter([FAMILY]), endless])
    address = serve(lambda: next(calls)())
    host, _, port = address.rpartition(":")
    idle: list[socket.socket] = []

    def scrape_and_not_read() -> None:
        idle.append(socket.create_connection((host, int(port))))
        idle[-1].sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert begun.acquire(timeout=20)

    for _ in range(3):
        scrape_and_not_read()
    assert get(address).endswith(FAMILY.encode())
    scrape_and_not_read()
    with pytest.raises(HTTPError, match="503"):
        get(address)
    assert len(rendered) < 400  # of 4,000 MiB
    for connection in idle:
        connection.close()
