"""Get along with a firewall of iptables: dockerd's, ufw's, or the administrator's own.

Our table's ``accept`` ends only our own chain, and a packet has to please every chain: where iptables' FORWARD drops
what it does not know, as it does on any machine where dockerd or ufw is active, containers would have no network. So
our bridges are let through there, each rule marked with the engine's name. What must not pass is still dropped in our
table.
"""

import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.log import log

_TIMEOUT_S: Final = 10
_WAIT_S: Final = "5"  # for iptables' own lock


@dataclass(frozen=True, slots=True)
class Changes:
    """Rules to take out of FORWARD and to put in, as arguments of iptables."""

    delete: tuple[tuple[str, ...], ...]
    insert: tuple[tuple[str, ...], ...]


def plan(listing: str, mark: str, bridges: Iterable[str]) -> Changes:
    """Compare FORWARD with what it should hold.

    Args:
        listing: what ``iptables -S FORWARD`` prints.
        mark: the comment of our rules.
        bridges: whose traffic to let through, if anything there could stop it.
    """
    lines = [tuple(shlex.split(line)) for line in listing.splitlines()]
    ours = [line[2:] for line in lines if line[:1] == ("-A",) and _comment(line) == mark]
    others = any(line[:1] == ("-A",) and _comment(line) != mark for line in lines)
    closed = any(line[:1] == ("-P",) and line[2:3] != ("ACCEPT",) for line in lines)
    wanted = [_rule(way, bridge, mark) for bridge in bridges for way in ("-i", "-o")] if others or closed else []
    return Changes(
        delete=tuple(rule for rule in ours if rule not in wanted),
        insert=tuple(rule for rule in wanted if rule not in ours),
    )


def _rule(way: str, bridge: str, mark: str) -> tuple[str, ...]:
    return (way, bridge, "-m", "comment", "--comment", mark, "-j", "ACCEPT")


def _comment(rule: Sequence[str]) -> str:
    return rule[rule.index("--comment") + 1] if "--comment" in rule else ""


class Firewall:
    """The machine's iptables, if it has them. Blocks: call it in a thread."""

    def __init__(self, mark: str, program: str = "iptables") -> None:
        """``mark`` is the comment that tells our rules from everybody else's; ``program`` may be ip6tables."""
        self._mark = mark
        self._program = shutil.which(program)

    def admit(self, bridges: Iterable[str]) -> None:
        """Let these bridges through, and no others of ours. What cannot be done is logged."""
        if self._program is None:
            return
        try:
            changes = plan(self._run("-S", "FORWARD"), self._mark, bridges)
            for rule in changes.delete:
                self._run("-D", "FORWARD", *rule)
            for rule in changes.insert:
                self._run("-I", "FORWARD", *rule)
        except subprocess.CalledProcessError as error:
            log.warning("iptables refused", command=error.cmd, error=error.stderr.strip())
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("iptables did not work", error=str(error))

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            (self._program or "iptables", "-w", _WAIT_S, *arguments),
            check=True,
            timeout=_TIMEOUT_S,
            capture_output=True,
            text=True,
        )
        return done.stdout
