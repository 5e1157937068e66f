"""What a client draws while it pulls."""

import pytest

from dockerapi.image.progress import PullMessages, bar
from sampan.engine.progress import Done, LayerProgress, Phase, Progress, Resolved
from sampan.oci.reference import parse_reference
from tests.fakes.image_values import image_value

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
RESOLVED = Resolved("docker.io/library/busybox:latest", "sha256:" + "d" * 64, (ONE, TWO))


def lines(*events: Progress, name: str = "busybox") -> list[str]:
    messages = PullMessages(parse_reference(name).with_default_tag())
    rendered = [message for event in events for message in messages.render(event)]
    return [": ".join(part for part in (one.get("id", ""), one["status"]) if part) for one in rendered]


def done(*, existed: bool) -> Done:
    return Done(image_value(), RESOLVED.digest, existed)


def test_a_pull_of_new_layers() -> None:
    assert lines(
        RESOLVED,
        LayerProgress(ONE, Phase.WAITING),
        LayerProgress(ONE, Phase.DOWNLOADING, 5, 10),
        LayerProgress(ONE, Phase.VERIFYING, 10, 10),
        LayerProgress(ONE, Phase.DOWNLOADED, 10, 10),
        LayerProgress(ONE, Phase.EXTRACTING, 10, 10),
        LayerProgress(ONE, Phase.COMPLETE, 10, 10),
        done(existed=False),
    ) == [
        "latest: Pulling from library/busybox",
        "111111111111: Pulling fs layer",
        "222222222222: Pulling fs layer",
        "111111111111: Waiting",
        "111111111111: Downloading",
        "111111111111: Verifying Checksum",
        "111111111111: Download complete",
        "111111111111: Extracting",
        "111111111111: Pull complete",
        f"Digest: {RESOLVED.digest}",
        "Status: Downloaded newer image for busybox:latest",
    ]


def test_layers_that_are_here_are_named_when_another_is_not() -> None:
    assert lines(RESOLVED, LayerProgress(ONE, Phase.EXISTS), LayerProgress(TWO, Phase.WAITING))[1:] == [
        "111111111111: Already exists",
        "222222222222: Pulling fs layer",
        "222222222222: Waiting",
    ]


def test_an_image_that_is_here_takes_no_layer_lines() -> None:
    events = (RESOLVED, LayerProgress(ONE, Phase.EXISTS), LayerProgress(TWO, Phase.EXISTS), done(existed=True))
    assert lines(*events, name="localhost:5000/a/b:1") == [
        "1: Pulling from a/b",
        f"Digest: {RESOLVED.digest}",
        "Status: Image is up to date for localhost:5000/a/b:1",
    ]


def test_a_new_name_for_layers_that_are_here() -> None:
    events = (RESOLVED, LayerProgress(ONE, Phase.EXISTS), LayerProgress(TWO, Phase.EXISTS), done(existed=False))
    assert lines(*events)[1:3] == ["111111111111: Already exists", "222222222222: Already exists"]


def test_last_step_before_a_line_stalls_is_drawn() -> None:
    steps: list[Progress] = [LayerProgress(ONE, Phase.DOWNLOADING, step, 1000) for step in (0, 500)]
    messages = PullMessages(parse_reference("busybox").with_default_tag())
    drawn = [message for event in (RESOLVED, *steps) for message in messages.render(event)]
    assert drawn[-1]["progressDetail"] == {"current": 500, "total": 1000}


def test_unpacking_is_thinned_out_and_the_end_is_not() -> None:
    steps = [LayerProgress(ONE, Phase.EXTRACTING, step, 1000) for step in range(1, 1001)]
    drawn = lines(RESOLVED, *steps)[3:]
    assert 2 <= len(drawn) < 100


@pytest.mark.parametrize(
    ("current", "total", "expected"),
    [
        (0, 100, f"[>{' ' * 50}]       0B/100B"),
        (50, 100, f"[{'=' * 25}>{' ' * 25}]      50B/100B"),
        (100, 100, f"[{'=' * 50}>]     100B/100B"),
        (1_234_567, 0, " 1.235MB"),
    ],
)
def test_bars(current: int, total: int, expected: str) -> None:
    assert bar(current, total) == expected
