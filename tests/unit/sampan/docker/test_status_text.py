"""The STATUS column of a list of containers."""

from datetime import UTC, datetime

import pytest

from sampan.docker.views.container_view import status_text
from sampan.resource.container import ContainerState, Health, HealthStatus, Status

NOW_S = 1_000_000.0


def at(seconds_ago: int) -> datetime:
    return datetime.fromtimestamp(NOW_S - seconds_ago, UTC)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (ContainerState(Status.CREATED), "Created"),
        (ContainerState(Status.RUNNING, started_at=at(180)), "Up 3 minutes"),
        (ContainerState(Status.PAUSED, started_at=at(5)), "Up 5 seconds (Paused)"),
        (
            ContainerState(Status.RUNNING, started_at=at(5), health=Health(HealthStatus.HEALTHY)),
            "Up 5 seconds (healthy)",
        ),
        (
            ContainerState(Status.RUNNING, started_at=at(5), health=Health(HealthStatus.STARTING)),
            "Up 5 seconds (health: starting)",
        ),
        (ContainerState(Status.EXITED, exit_code=137, finished_at=at(7200)), "Exited (137) 2 hours ago"),
        (ContainerState(Status.RESTARTING, exit_code=1, finished_at=at(2)), "Restarting (1) 2 seconds ago"),
        (ContainerState(Status.REMOVING), "Removal In Progress"),
        (ContainerState(Status.DEAD), "Dead"),
        (ContainerState(Status.EXITED), "Exited"),
    ],
)
def test_status_is_in_dockers_words(state: ContainerState, text: str) -> None:
    assert status_text(state, NOW_S) == text
