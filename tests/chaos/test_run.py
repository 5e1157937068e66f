"""Two minutes of several clients and random kills; ``make chaos`` runs it for as long as asked."""

import pytest

from tests.chaos.run.campaign import Plan, run
from tests.chaos.run.report import report
from tests.support.tools import need, need_root

pytestmark = [pytest.mark.root, pytest.mark.slow]

_SEED = 20
_MINUTES = 2.0


# Without an end by the clock: every wait within has a deadline of its own, and a loaded machine takes longer.
@pytest.mark.timeout(1800)
def test_clients_get_right_answers_and_nothing_is_lost_or_leaked_while_processes_are_killed() -> None:
    need_root()
    need("docker", "docker-registry", "conmon", "nft", "ip", "nsenter")
    ledger = run(Plan(_SEED, _MINUTES))
    said = report(ledger, _SEED, _MINUTES * 60)
    print(said)
    assert ledger.operations.total() > 0
    assert ledger.kills.total() > 0
    assert not ledger.faults, said
