"""All services' metrics in one exposition."""

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dockerapi.system.joined_metrics import join, joined, targets
from sampan.layout import Layout
from tests.support.prometheus import complaints

IMAGED = """# HELP up_seconds Seconds.
# TYPE up_seconds gauge
up_seconds 3.0
# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{method="a b"} 1.0
"""
RUNTIMED = """# HELP calls_total Calls.
# TYPE calls_total counter
calls_total{method="c"} 2.0
# HELP own Own.
# TYPE own gauge
own{name="{\\"x\\"} 1"} 5
"""


def test_a_family_is_described_once_and_every_sample_says_whose_it_is() -> None:
    text = b"".join(join({"imaged": IMAGED, "runtimed": RUNTIMED})).decode()
    assert text.splitlines() == [
        "# HELP up_seconds Seconds.",
        "# TYPE up_seconds gauge",
        'up_seconds{service="imaged"} 3.0',
        "# HELP calls_total Calls.",
        "# TYPE calls_total counter",
        'calls_total{service="imaged",method="a b"} 1.0',
        'calls_total{service="runtimed",method="c"} 2.0',
        "# HELP own Own.",
        "# TYPE own gauge",
        'own{service="runtimed",name="{\\"x\\"} 1"} 5',
    ]


@pytest.mark.parametrize("value", ["\u2028", "\u2029", "\x85", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e"], ids=ascii)
def test_a_label_s_value_may_have_what_ends_lines_elsewhere(value: str) -> None:
    line = f'own{{name="a{value}b"}} 5'
    text = b"".join(join({"runtimed": f"# HELP own Own.\n# TYPE own gauge\n{line}\n"})).decode()
    assert text.split("\n") == [
        "# HELP own Own.",
        "# TYPE own gauge",
        f'own{{service="runtimed",name="a{value}b"}} 5',
        "",
    ]


@pytest.fixture
def imaged(tmp_path: Path) -> Iterator[Layout]:
    """A layout with an imaged that is scraped, and a runtimed that does not answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(IMAGED.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    layout = Layout(tmp_path / "d", tmp_path)
    for name, address in (("imaged", f"127.0.0.1:{server.server_port}"), ("runtimed", "127.0.0.1:1"), ("buildd", "")):
        layout.state_file(name).write_text(json.dumps({"pid": 1, "metrics": address}))
    layout.state_file("snapshotter").write_text("{half")
    yield layout
    server.shutdown()
    thread.join()
    server.server_close()


def test_who_does_not_answer_is_left_out_and_named(imaged: Layout) -> None:
    text = b"".join(joined(imaged, "dockerapi", lambda: [b"# HELP mine M.\n# TYPE mine gauge\nmine 1\n"]))
    up = {
        line.split('"')[1]
        for line in text.decode().splitlines()
        if line.startswith("sampan_service_up{") and line[-1] == "1"
    }
    assert up == {"imaged", "dockerapi"}
    assert 'sampan_service_up{service="runtimed"} 0' in text.decode()
    assert 'mine{service="dockerapi"} 1' in text.decode()
    assert complaints(text) == []


def test_who_waits_until_it_is_asked_is_up_and_left_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "d", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        facts = {"pid": 1, "metrics": f"127.0.0.1:{listener.getsockname()[1]}", "waits": True}
        layout.state_file("buildd").write_text(json.dumps(facts))
        text = b"".join(joined(layout, "dockerapi", lambda: [b""])).decode()
        assert 'sampan_service_up{service="buildd"} 1' in text
        assert targets(layout) == []
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has connected
            listener.accept()


def test_targets_are_those_that_say_where_they_are_scraped(imaged: Layout) -> None:
    assert [each["labels"] for each in targets(imaged)] == [{"service": "imaged"}, {"service": "runtimed"}]
