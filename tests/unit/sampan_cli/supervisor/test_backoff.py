from sampan_cli.supervisor.child import HEALTHY_AFTER_S, QUICK_RESTARTS, Backoff


def test_first_restart_is_immediate_and_the_next_ones_wait_longer_and_longer() -> None:
    backoff = Backoff()
    assert [backoff.delay_after_death(0) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]


def test_service_that_somebody_kills_again_and_again_is_back_at_once_each_time() -> None:
    backoff = Backoff()
    assert [backoff.delay_after_death(0.1) for _ in range(QUICK_RESTARTS)] == [0] * QUICK_RESTARTS
    assert [backoff.delay_after_death(0.1) for _ in range(5)] == [1, 2, 4, 4, 4]


def test_service_that_can_live_no_more_is_not_restarted_at_once_for_what_it_was() -> None:
    backoff = Backoff()
    assert [backoff.delay_after_death(ready_for_s) for ready_for_s in (0.1, 0.1, 0, 0)] == [0, 0, 1, 2]


def test_service_that_was_ready_for_a_while_is_restarted_at_once_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.delay_after_death(0)
    assert backoff.delay_after_death(HEALTHY_AFTER_S) == 0
    assert backoff.delay_after_death(0) == 1


def test_service_that_dies_for_days_still_has_a_delay() -> None:
    backoff = Backoff(deaths=10**6, delayed=10**6)
    assert backoff.delay_after_death(0) == 30
