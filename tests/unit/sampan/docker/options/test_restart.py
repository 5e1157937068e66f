import pytest

from sampan.docker.options.restart import check_restart, parse_restart
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import RestartPolicy


def test_restart_policy_may_count() -> None:
    assert parse_restart("on-failure:3") == RestartPolicy(name="on-failure", maximum_retries=3)
    assert parse_restart("") == RestartPolicy(name="no")


@pytest.mark.parametrize("text", [":3", "on-failure:x", "sometimes", "always:3", "on-failure:-1"])
def test_bad_restart_policy_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid restart policy"):
        check_restart(parse_restart(text), auto_remove=False)


def test_a_container_that_is_removed_at_its_end_has_no_policy() -> None:
    check_restart(RestartPolicy("no"), auto_remove=True)
    with pytest.raises(InvalidArgumentError, match="can't create 'AutoRemove' container with restart policy"):
        check_restart(RestartPolicy("always"), auto_remove=True)
