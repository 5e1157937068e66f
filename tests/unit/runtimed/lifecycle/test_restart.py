import pytest

from runtimed.lifecycle.restart import next_backoff_s, restarts
from sampan.resource.container_spec import RestartPolicy

ALWAYS, UNLESS, FAILURE, NO = (RestartPolicy(name) for name in ("always", "unless-stopped", "on-failure", "no"))


@pytest.mark.parametrize(
    ("policy", "code", "count", "again"),
    [
        (NO, 1, 0, False),
        (RestartPolicy(), 1, 0, False),
        (ALWAYS, 0, 99, True),
        (UNLESS, 0, 0, True),
        (FAILURE, 0, 0, False),
        (FAILURE, 1, 99, True),
        (RestartPolicy("on-failure", 2), 1, 1, True),
        (RestartPolicy("on-failure", 2), 1, 2, False),
    ],
)
def test_what_follows_an_exit(policy: RestartPolicy, code: int, count: int, again: bool) -> None:
    assert restarts(policy, code, count, manually_stopped=False) is again
    assert restarts(policy, code, count, manually_stopped=True) is (again and policy != UNLESS)


def test_the_delay_doubles_up_to_a_minute_and_starts_over_after_a_good_run() -> None:
    delays = [next_backoff_s(0, 0)]
    while len(delays) < 12:
        delays.append(next_backoff_s(delays[-1], 1))
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 60
    assert next_backoff_s(60, 10) == 0.1
