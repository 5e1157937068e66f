from datetime import UTC, datetime

import pytest

from sampan.errors import InvalidArgumentError
from sampan.moments import duration_ns, to_ns, until_ns

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR_NS = 3600 * 10**9


@pytest.mark.parametrize(
    "text",
    ["2h", "120m", "1h59m60s", "1777629600", "1777629600.000", "2026-05-01T10:00:00Z", "2026-05-01T12:00:00+02:00"],
)
def test_moment_is_read_in_every_form_that_docker_takes(text: str) -> None:
    assert until_ns(text, to_ns(NOW)) == to_ns(NOW) - 2 * HOUR_NS


@pytest.mark.parametrize(
    "text", ["yesterday", "", "9" * 400, "1e400", "nan", "9" * 30 + "h", "2026-13-01", "\ud800", "1h\0", "٣h", "1h ago"]
)
def test_moment_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="time"):
        until_ns(text, to_ns(NOW))


def test_duration_is_read_once_however_long_it_is() -> None:
    """Quadratic work on this many digits would take hours."""
    assert duration_ns("1" * 4_000_000) is None
    assert duration_ns("1h" * 1_000_000) == 1_000_000 * HOUR_NS
