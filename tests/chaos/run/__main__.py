"""``python -m tests.chaos.run --seed 7 --minutes 12``: a run, and its report; exits with 1 if there is a fault."""

import argparse
import secrets
import sys
import time
from pathlib import Path

from tests.chaos.run.campaign import Plan, run
from tests.chaos.run.report import report


def main() -> int:
    """Run as asked for."""
    parser = argparse.ArgumentParser(prog="make chaos ARGS=…", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000), help="what all choices follow from")
    parser.add_argument("--minutes", type=float, default=12.0, help="how long clients work")
    parser.add_argument("--operations", type=int, default=0, help="stop after so many, if that comes first")
    parser.add_argument("--clients", type=int, default=6, help="how many work at once")
    parser.add_argument("--between", type=int, nargs=2, default=(15, 70), metavar=("MIN", "MAX"),
                        help="operations from one kill to the next")  # fmt: skip
    parser.add_argument("--logs", type=Path, help="keep the services' logs in this directory")
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    plan = Plan(asked.seed, asked.minutes, asked.operations, asked.clients, tuple(asked.between), asked.logs)
    begun = time.monotonic()
    ledger = run(plan)
    print(report(ledger, plan.seed, time.monotonic() - begun))
    return 1 if ledger.faults else 0


if __name__ == "__main__":
    sys.exit(main())
