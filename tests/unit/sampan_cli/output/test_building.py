"""Progress of builds, as lines and as JSON."""

import base64
import io
import json

from sampan.build.progress import BuildWarning, Position, Update, Vertex, VertexLog, VertexStatus, VertexWarning
from sampan.oci.digest import Digest
from sampan_cli.output.building import open_view

S = 10**9
ONE, TWO, THREE = (Digest("sha256:" + each * 64) for each in "123")


def shown(kind: str, *updates: list[Update]) -> str:
    stream = io.StringIO()
    with open_view(kind, stream) as view:
        for some in updates:
            view.update(some)
    return stream.getvalue()


def test_plain_lines_are_buildkits() -> None:
    text = shown(
        "plain",
        [Vertex(ONE, "[internal] load build context"), Vertex(TWO, "[2/2] RUN make", (ONE,))],
        [Vertex(ONE, "[internal] load build context", (), 10 * S)],
        [VertexStatus("transferring context:", ONE, 2100, 0, 10 * S, 10 * S)],
        [VertexStatus("transferring context:", ONE, 4200, 0, 11 * S, 10 * S, 11 * S)],
        [Vertex(ONE, "[internal] load build context", (), 10 * S, 11 * S)],
        [Vertex(TWO, "[2/2] RUN make", (ONE,), 11 * S), VertexLog(TWO, 1, b"one\ntw", 11 * S + S // 2)],
        [VertexLog(TWO, 2, b"o\nlast", 12 * S)],
        [Vertex(TWO, "[2/2] RUN make", (ONE,), 11 * S, 13 * S)],
    )
    assert text.splitlines() == [
        "#1 [internal] load build context",
        "#1 transferring context: 2.1kB",
        "#1 transferring context: 4.2kB 1.0s done",
        "#1 DONE 1.0s",
        "",
        "#2 [2/2] RUN make",
        "#2 0.500 one",
        "#2 1.000 two",
        "#2 last",
        "#2 DONE 2.0s",
    ]


def test_steps_that_run_together_take_turns() -> None:
    text = shown(
        "plain",
        [Vertex(ONE, "one", (), S), VertexLog(ONE, 1, b"a\n", S)],
        [Vertex(TWO, "two", (), S), VertexLog(TWO, 1, b"b\n", S)],
        [VertexLog(ONE, 1, b"c\n", S), Vertex(ONE, "one", (), S, 2 * S)],
        [Vertex(TWO, "two", (), S, 2 * S), Vertex(THREE, "three", (), 2 * S, 2 * S, cached=True)],
    )
    assert text.splitlines() == [
        "#1 one", "#1 0.000 a", "#1 ...", "",
        "#2 two", "#2 0.000 b", "#2 ...", "",
        "#1 one", "#1 0.000 c", "#1 DONE 1.0s", "",
        "#2 two", "#2 DONE 1.0s", "",
        "#3 three", "#3 CACHED",
    ]  # fmt: skip


def test_the_output_of_what_failed_is_shown_again() -> None:
    failed: list[list[Update]] = [
        [Vertex(ONE, "RUN false", (), S), VertexLog(ONE, 2, b"no\n", S)],
        [Vertex(TWO, "RUN sleep", (), S, 2 * S, error="context canceled")],
        [Vertex(ONE, "RUN false", (), S, 2 * S, error="exit code: 1")],
    ]
    lines = shown("plain", *failed).splitlines()
    assert "#1 ERROR: exit code: 1" in lines
    assert "#2 CANCELED" in lines
    assert lines[-4:] == ["------", " > RUN false:", "0.000 no", "------"]
    assert shown("quiet", *failed).splitlines() == [" > RUN false:", "0.000 no"]
    assert shown("quiet", failed[0]) == ""


def test_warnings_come_last() -> None:
    said = BuildWarning("StageNameCasing", "StageNameCasing: 'A' (line 1)", ("why",), "url", (Position(1, 1),))
    text = shown("plain", [Vertex(ONE, "one", (), S, S), VertexWarning(ONE, said, 1, "Dockerfile", b"FROM x AS A")])
    assert text.splitlines()[-2:] == [" 1 warning found:", " - StageNameCasing: 'A' (line 1)"]


def test_json_is_for_programs() -> None:
    text = shown("rawjson", [Vertex(ONE, "one", (TWO,), S), VertexLog(ONE, 1, b"x\n", S)])
    assert json.loads(text) == {
        "vertexes": [{"digest": ONE, "inputs": [TWO], "name": "one", "started": "1970-01-01T00:00:01Z"}],
        "logs": [
            {
                "vertex": ONE,
                "stream": 1,
                "data": base64.b64encode(b"x\n").decode(),
                "timestamp": "1970-01-01T00:00:01Z",
            }
        ],
    }


def test_a_terminal_shows_every_step() -> None:
    text = shown("tty", [Vertex(ONE, "[1/1] FROM x", (), S, 2 * S), Vertex(TWO, "RUN y", (), 2 * S, error="no")])
    assert "[1/1] FROM x" in text
    assert "RUN y" in text
    assert "FINISHED" in text
