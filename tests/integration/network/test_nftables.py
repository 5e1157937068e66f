"""The library that rules are applied with, in a network namespace of its own."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.tools import need

pytestmark = pytest.mark.root

# Many rules of others, which the library reads whatever is asked of it.
PROGRAM = """
import json, subprocess, sys
from pathlib import Path
from runtimed.network.kernel.nftables import Nftables, own_ports
from sampan.sys.memory import trim

def kept():
    trim()
    rows = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("Anonymous:"))

others = ["add table ip others"]
for number in range(1500):
    others.append(f"add chain ip others c{number}")
    others.append(f"add rule ip others c{number} tcp dport {number + 1} ip saddr 10.0.0.1 accept")
subprocess.run(["nft", "-f", "-"], input="\\n".join(others), text=True, check=True)
table = Nftables()
before = kept()
table.apply("add table ip ours\\nadd chain ip ours one")
full = kept()
table.give_back()
rested = kept()
table.apply("add table ip ours\\nadd chain ip ours two")
table.again()
own = all(table.is_own(port) for port in own_ports())
listed = subprocess.run(["nft", "list", "table", "ip", "ours"], capture_output=True, text=True, check=True).stdout
table.close()
table.give_back()
json.dump({"full": full - before, "rested": rested - before, "own": own, "listed": listed}, sys.stdout)
"""


def test_what_is_kept_of_others_rules_is_given_back_and_ours_are_applied_as_before() -> None:
    need("nft", "unshare")
    command = ["unshare", "--net", sys.executable, "-c", PROGRAM]
    seen = json.loads(subprocess.run(command, check=True, capture_output=True, env=os.environ).stdout)
    assert "chain one" in seen["listed"]
    assert "chain two" in seen["listed"]
    assert seen["own"]
    assert seen["rested"] < seen["full"] / 4, seen
