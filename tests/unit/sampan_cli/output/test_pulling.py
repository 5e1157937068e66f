from collections.abc import AsyncGenerator

from sampan.engine.progress import Done, LayerProgress, Phase, Progress, Resolved
from sampan.oci.reference import parse_reference
from sampan_cli.output.pulling import open_view, watch
from tests.fakes.image_values import image_value

ONE = f"sha256:{'1' * 64}"
TWO = f"sha256:{'2' * 64}"


async def events() -> AsyncGenerator[Progress, None]:
    yield Resolved("docker.io/library/debian:12", ONE, (ONE, TWO))
    yield LayerProgress(ONE, Phase.WAITING)
    yield LayerProgress(TWO, Phase.EXISTS)
    yield LayerProgress(ONE, Phase.DOWNLOADING, 5, 10)
    yield LayerProgress(ONE, Phase.RETRYING, 3)
    yield LayerProgress(ONE, Phase.DOWNLOADED, 10, 10)
    yield LayerProgress(ONE, Phase.EXTRACTING, 5, 10)
    yield LayerProgress(ONE, Phase.COMPLETE, 10, 10)
    yield LayerProgress(ONE, Phase.COMPLETE, 10, 10)
    yield Done(image_value(ONE), TWO, existed=False)


async def test_repository_is_named_without_its_registry() -> None:
    lines: list[str] = []
    await watch(events(), parse_reference("localhost:5000/team/app:12"), lines.append, None)
    assert lines[0] == "12: Pulling from team/app"


async def test_without_a_terminal_each_layer_says_each_step_once() -> None:
    lines: list[str] = []
    done = await watch(events(), parse_reference("debian:12"), lines.append, None)
    assert done is not None
    assert done.digest == TWO
    assert lines == [
        "12: Pulling from library/debian",
        "111111111111: Pulling fs layer",
        "222222222222: Already exists",
        "111111111111: Retrying in 3 seconds",
        "111111111111: Download complete",
        "111111111111: Pull complete",
    ]


def test_a_pushed_layer_ends_in_dockers_words() -> None:
    lines: list[str] = []
    with open_view(lines.append, None) as view:
        view.layer("one", LayerProgress(ONE, Phase.PREPARING))
        view.layer("one", LayerProgress(ONE, Phase.RETRYING, 1))
        view.layer("one", LayerProgress(ONE, Phase.MOUNTED, 10, 10, "library/debian"))
        view.layer("two", LayerProgress(TWO, Phase.THERE, 10, 10))
    assert lines == [
        "one: Preparing",
        "one: Retrying in 1 second",
        "one: Mounted from library/debian",
        "two: Layer already exists",
    ]
