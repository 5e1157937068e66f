from datetime import UTC, datetime

import pytest

from runtimed.lifecycle.health import command_of, is_checked, judge, timed_out, unwatched
from sampan.resource.container import Health, HealthStatus, Probe
from sampan.resource.container_spec import HealthCheck

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD, BAD = Probe(NOW, NOW, 0, "ok"), Probe(NOW, NOW, 1, "no")
CHECK = HealthCheck(("CMD", "x"), retries=2)


def after(*probes: Probe, starting_up: bool = False) -> Health:
    health = Health()
    for probe in probes:
        health = judge(health, probe, CHECK, starting_up=starting_up)
    return health


def test_one_success_is_enough_to_be_healthy() -> None:
    assert after(BAD, GOOD).status is HealthStatus.HEALTHY
    assert after(BAD, GOOD).failing_streak == 0


def test_only_as_many_failures_in_a_row_as_retries_make_it_unhealthy() -> None:
    assert after(GOOD, BAD).status is HealthStatus.HEALTHY
    assert after(GOOD, BAD, GOOD, BAD).status is HealthStatus.HEALTHY
    assert after(GOOD, BAD, BAD).status is HealthStatus.UNHEALTHY
    assert after(BAD, BAD).status is HealthStatus.UNHEALTHY


def test_failures_do_not_count_while_it_is_starting_up_and_has_never_been_well() -> None:
    health = after(BAD, BAD, BAD, starting_up=True)
    assert (health.status, health.failing_streak, len(health.log)) == (HealthStatus.STARTING, 0, 3)
    assert after(GOOD, BAD, BAD, starting_up=True).status is HealthStatus.UNHEALTHY


def test_the_last_five_probes_are_kept() -> None:
    assert after(*[BAD] * 5, GOOD).log == (BAD, BAD, BAD, BAD, GOOD)


@pytest.mark.parametrize(
    ("test", "command"),
    [(("CMD", "a", "b c"), ("a", "b c")), (("CMD-SHELL", "a || b"), ("/bin/sh", "-c", "a || b"))],
)
def test_the_probes_command(test: tuple[str, ...], command: tuple[str, ...]) -> None:
    assert command_of(HealthCheck(test)) == command


def test_a_probe_that_took_too_long_is_shown_with_what_it_had_said() -> None:
    assert timed_out(0.05, b"") == b"Health check exceeded timeout (50ms)"
    assert timed_out(90, b"connecting\n") == b"Health check exceeded timeout (1m30s): connecting\n"


def test_none_and_nothing_are_no_check() -> None:
    assert not is_checked(None)
    assert not is_checked(HealthCheck())
    assert not is_checked(HealthCheck(("NONE",)))
    assert is_checked(CHECK)


def test_nobody_probes_what_has_ended_which_is_unhealthy() -> None:
    assert unwatched(None) is None
    ended = unwatched(Health(HealthStatus.HEALTHY, 0, ()))
    assert ended is not None
    assert ended.status is HealthStatus.UNHEALTHY
