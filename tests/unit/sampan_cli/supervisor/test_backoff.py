from sampan_cli.supervisor.backoff import HEALTHY_AFTER_S, Backoff


def test_first_restart_is_immediate_and_the_next_ones_wait_longer_and_longer() -> None:
    backoff = Backoff()
    assert [backoff.delay_after_death(0.1) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]


def test_service_that_was_ready_for_a_while_is_restarted_at_once_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.delay_after_death(0)
    assert backoff.delay_after_death(HEALTHY_AFTER_S) == 0
    assert backoff.delay_after_death(0) == 1


def test_service_that_dies_for_days_still_has_a_delay() -> None:
    backoff = Backoff(deaths=10**6)
    assert backoff.delay_after_death(0) == 30
