import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from sampan.api.runtime.v1 import containers_pb2 as pb
from sampan_cli.commands.container.ps import asks_for_size, container_row, status_text

NOW_S = 1_000_000.0
State = pb.ContainerState


def at(seconds_ago: int) -> Timestamp:
    return Timestamp(seconds=int(NOW_S) - seconds_ago)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (State(status=State.CREATED), "Created"),
        (State(status=State.RUNNING, started_at=at(180)), "Up 3 minutes"),
        (State(status=State.PAUSED, started_at=at(5)), "Up 5 seconds (Paused)"),
        (State(status=State.RUNNING, started_at=at(5), health=pb.Health(status="healthy")), "Up 5 seconds (healthy)"),
        (
            State(status=State.RUNNING, started_at=at(5), health=pb.Health(status="starting")),
            "Up 5 seconds (health: starting)",
        ),
        (State(status=State.EXITED, exit_code=137, finished_at=at(7200)), "Exited (137) 2 hours ago"),
        (State(status=State.RESTARTING, exit_code=1, finished_at=at(2)), "Restarting (1) 2 seconds ago"),
        (State(status=State.REMOVING), "Removal In Progress"),
        (State(status=State.DEAD), "Dead"),
    ],
)
def test_status_is_in_dockers_words(state: pb.ContainerState, text: str) -> None:
    assert status_text(state, NOW_S) == text


@pytest.mark.parametrize(
    ("template", "asks"),
    [
        ("", False),
        ("table {{.Names}}", False),
        ("table {{.Names}}\t{{.Size}}", True),
        ("json", True),
        ("{{json .}}", True),
        ("{{ json . }}", True),
        ("{{json .Names}}", False),
    ],
)
def test_sizes_are_looked_for_where_they_are_shown(template: str, asks: bool) -> None:
    assert asks_for_size(template) is asks


def test_size_shows_what_is_written_and_all_that_is_seen() -> None:
    container = pb.Container(id="a" * 64, size_rw_bytes=4096)
    assert container_row(container, NOW_S, trunc=True)["Size"] == "4.1kB"
    assert container_row(container, NOW_S, trunc=True, below_bytes=2_000_000)["Size"] == "4.1kB (virtual 2MB)"
