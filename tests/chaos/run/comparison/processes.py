"""Processes and control groups: those of the containers that run, the services, and no others."""

from collections import Counter
from pathlib import Path

from sampan.services import STARTED as SERVICES
from tests.chaos.run.answers import pids_below
from tests.chaos.run.comparison.view import View
from tests.support.engine import Engine
from tests.support.footprint import control_groups


def monitors(engine: Engine, view: View) -> list[str]:
    """One conmon for each container that runs; those of execs belong to such a container."""
    found: Counter[str] = Counter()
    findings = []
    for pid, words in pids_below(engine.layout.run_root).items():
        if Path(words[0]).name != "conmon":
            continue
        container = words[words.index("-c") + 1]
        if "--exec-process-spec" not in words:
            found[container] += 1
        if container not in view.up:
            findings.append(f"conmon {pid} works for {container[:12]}, which does not run: {' '.join(words)[:200]}")
    findings += [
        f"container {identity[:12]} runs and has {found[identity]} monitors"
        for identity in view.up
        if found[identity] != 1
    ]
    return findings


def first_processes(engine: Engine, view: View) -> list[str]:
    """What inspect calls a container's process runs, in its own control group."""
    findings = []
    for shown in view.containers:
        if not shown.is_up:
            if shown.pid:
                findings.append(f"container {shown.id[:12]} is {shown.status} and has pid {shown.pid}")
            continue
        try:
            groups = Path(f"/proc/{shown.pid}/cgroup").read_text()
        except OSError:
            findings.append(f"container {shown.id[:12]} runs and its pid {shown.pid} is not there")
            continue
        if shown.id not in groups:
            findings.append(f"pid {shown.pid} of container {shown.id[:12]} is in other control groups: {groups}")
    return findings


def groups(engine: Engine, view: View) -> list[str]:
    """Control groups are those of running containers, in every hierarchy; no process is in any other."""
    findings = []
    seen: set[str] = set()
    for group in control_groups(engine.layout):
        if len(group.name) != 64:
            continue
        seen.add(group.name)
        if group.name not in view.up:
            inside = (group / "cgroup.procs").read_text().split()
            findings.append(f"control group {group} of a container that does not run, with processes {inside}")
    findings += [f"container {identity[:12]} runs and has no control group" for identity in view.up - seen]
    return findings


def services(engine: Engine, view: View) -> list[str]:
    """One process for each service, the supervisor, runtimed's writer of logs, a warm parent; beside them conmon."""
    layout = engine.layout
    known = {engine.pid(service): service for service in SERVICES}
    assert engine.process is not None
    known[engine.process.pid] = "supervisor"
    findings = [f"{name} (pid {pid}) does not run" for pid, name in known.items() if not Path(f"/proc/{pid}").exists()]
    for pid, words in pids_below(layout.run_root).items():
        if "runtimed.logs.writer" in words and _parent(pid) == engine.pid("runtimed"):
            continue
        if "sampan_cli.warm" in words and _parent(pid) == engine.process.pid:
            continue
        if pid not in known and Path(words[0]).name != "conmon":
            findings.append(f"process {pid} works for the engine and is none of its: {' '.join(words)[:300]}")
    return findings


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2].split()[1])
    except OSError:
        return 0  # it has ended
