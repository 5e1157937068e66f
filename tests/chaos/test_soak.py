"""A short soak; ``make soak`` runs a long one."""

import pytest

from tests.chaos.run.soak import soak
from tests.support.tools import need, need_root

pytestmark = [pytest.mark.root, pytest.mark.slow]


@pytest.mark.timeout(1800)
def test_after_many_execs_and_lives_of_containers_the_engine_holds_what_it_held_before() -> None:
    need_root()
    need("docker", "conmon", "nft", "ip", "nsenter")
    findings = soak(execs=200, lives=50)
    assert not findings, "\n".join(findings)
