"""Statistics as Docker's clients know them."""

from datetime import UTC, datetime

import pytest

from sampan.docker.views.stats_view import stats_json
from sampan.resource.stats import ContainerStats, CpuSample

_THEN = datetime.fromtimestamp(0, UTC)


@pytest.mark.parametrize(("percpu", "nothing"), [((1, 2), []), ((), None)])
def test_nothing_that_was_counted_is_a_list_where_it_could_have_been(
    percpu: tuple[int, ...], nothing: list[object] | None
) -> None:
    sample = ContainerStats("c" * 64, "c", _THEN, cpu=CpuSample(percpu_ns=percpu))
    counted = stats_json(sample)["blkio_stats"]
    assert isinstance(counted, dict)
    assert len(counted) == 8
    assert all(value == nothing for value in counted.values())
