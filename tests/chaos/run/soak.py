"""``python -m tests.chaos.run.soak``: thousands of execs and lives of containers, and then an engine as it was before.

Memory, descriptors, threads, files and rows are taken after a first round, which loads what is loaded when it is first
needed and fills what is kept up to a bound, and again at the end.
"""

import argparse
import contextlib
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sampan.services import STARTED
from tests.chaos.run.answers import Kind, Ways, demultiplex
from tests.chaos.run.campaign import IMAGE, load_base
from tests.chaos.run.comparison.compare import ALWAYS, compare, compare_collected
from tests.chaos.run.comparison.view import rows
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine

_WARM_EXECS: Final = 300  # more than are kept for each container
_WARM_LIVES: Final = 25
_THREADS: Final = 4
_GROWTH_BYTES: Final = 10 << 20  # what a service may have more at the end
_REST_S: Final = 60.0  # services give memory and connections back when nobody has asked for anything for a while

# A pool has as many threads as it ever had work at once, up to its bound; execs are kept up to another.
_POOL_THREADS: Final = 8

# Services close a connection among themselves that was idle for a while, and make another one when it is needed.
_CONNECTIONS: Final = 4

# What is opened when it is first needed, whenever that is, such as a database for one more thread. A leak grows with
# the rounds, and is hundreds after them.
_DESCRIPTORS: Final = 2

# Bounded in numbers of their own: see runtimed's journal and SQLite's own table.
_BOUNDED: Final = ("events", "sqlite_sequence")


@dataclass(frozen=True, slots=True)
class Holdings:
    """What an engine holds."""

    pss_bytes: dict[str, int]  # by service
    counts: dict[str, int]  # descriptors by kind and service, threads by service, files by root, rows by table

    def findings(self, before: "Holdings") -> list[str]:
        """Return what is more than it was."""
        grown = [
            f"{name} has {(size - before.pss_bytes[name]) / 1e6:.1f} MB more"
            for name, size in self.pss_bytes.items()
            if size - before.pss_bytes[name] > _GROWTH_BYTES
        ]
        more = [
            f"{what}: {count}, and {before.counts.get(what, 0)} before"
            for what, count in self.counts.items()
            if count > before.counts.get(what, 0) + _slack(what)
        ]
        return grown + more


@dataclass(slots=True)
class Soak:
    """One engine, one container that stays, and a number of rounds."""

    engine: Engine
    ways: Ways
    errors: list[str] = field(default_factory=list)

    def execs(self, number: int) -> None:
        """Run so many in the container that stays."""
        self._in_threads(number, self._exec)

    def lives(self, number: int) -> None:
        """Create, start, wait for and remove so many containers."""
        self._in_threads(number, self._life)

    def holdings(self) -> Holdings:
        """Look at everything."""
        pss, counts = {}, {}
        for name in STARTED:
            process = Path(f"/proc/{self.engine.pid(name)}")
            lines = (process / "smaps_rollup").read_text().splitlines()
            pss[name] = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            for kind, count in Counter(map(_kind, _links(process / "fd"))).items():
                counts[f"{kind} of {name}"] = count
            counts[f"threads of {name}"] = len(list((process / "task").iterdir()))
            database = self.engine.layout.data(name) / "metadata.db"
            if database.exists():
                for (table,) in rows(database, "SELECT name FROM sqlite_master WHERE type = 'table'"):
                    if table not in _BOUNDED:
                        ((count,),) = rows(database, f"SELECT count(*) FROM {table}")
                        counts[f"rows of {table} in {name}"] = count
        for root in (self.engine.layout.data_root, self.engine.layout.run_root):
            counts[f"files below {root.name}"] = _files(root)
        return Holdings(pss, counts)

    def _exec(self, number: int) -> None:
        http, code = self.ways.http, number % 90 + 2
        script = f"echo {number}; exit {code}"
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["sh", "-c", script]}
        created = http("POST", "/containers/steady/exec", body=body)
        assert created.kind is Kind.DONE, f"exec {number}: {created}"
        identity = created.json()["Id"]
        output, word = demultiplex(http("POST", f"/exec/{identity}/start", body={"Detach": False}).output)
        ended = http("GET", f"/exec/{identity}/json").json()["ExitCode"]
        assert (output, word, ended) == (f"{number}\n".encode(), "", code), f"exec {number}: {output!r} {word} {ended}"

    def _life(self, number: int) -> None:
        http, code, name = self.ways.http, number % 90 + 2, f"life-{number}"
        path = f"/containers/{name}"
        body = {"Image": IMAGE, "Cmd": ["sh", "-c", f"exit {code}"]}
        for answer in (
            http("POST", "/containers/create", {"name": name}, body),
            http("POST", f"{path}/start"),
            waited := http("POST", f"{path}/wait"),
            http("DELETE", path, {"force": 1, "v": 1}),
        ):
            assert answer.kind is Kind.DONE, f"{name}: {answer}"
        assert waited.json()["StatusCode"] == code, f"{name}: {waited}"

    def _in_threads(self, number: int, work: Callable[[int], None]) -> None:
        def run(first: int) -> None:
            for each in range(first, number, _THREADS):
                try:
                    work(each)
                except Exception:  # noqa: BLE001  # counted, and told at the end
                    self.errors.append(traceback.format_exc(limit=1))

        threads = [threading.Thread(target=run, args=(first,)) for first in range(_THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _slack(what: str) -> int:
    """Return how much more than before is no growth."""
    if what.startswith("threads"):
        return _POOL_THREADS
    if what.startswith("sockets"):
        return _CONNECTIONS
    if what.startswith("descriptors"):
        return _DESCRIPTORS
    return _THREADS if what == "rows of execs in runtimed" else 0


def soak(execs: int, lives: int) -> list[str]:
    """Carry it out; return what went wrong. Prints what it measures."""
    with run_engine() as engine:
        load_base(engine)
        docker = DockerClient(engine.host, engine.config)
        docker("run", "--detach", "--name", "steady", IMAGE, "sleep", "1000000")
        one = Soak(engine, Ways(engine))
        one.execs(_WARM_EXECS)
        one.lives(_WARM_LIVES)
        before = _rested(one, None)
        one.execs(execs)
        one.lives(lives)
        after = _rested(one, before)
        for name, size in after.pss_bytes.items():
            print(f"{name}: {before.pss_bytes[name] / 1e6:.1f} MB before, {size / 1e6:.1f} MB after")
        print(f"{execs} execs, {lives} lives of containers, {len(one.errors)} errors")
        findings = [*one.errors, *after.findings(before), *compare(engine, ALWAYS)]
        docker("rm", "--force", "steady")
        return [*findings, *compare_collected(engine)]


def _rested(one: Soak, before: Holdings | None) -> Holdings:
    """Return what it holds when it has come to rest: as little as before, or what is left after a while."""
    end = time.monotonic() + _REST_S
    settle = time.monotonic() + _REST_S / 3
    while True:
        now = one.holdings()
        done = not now.findings(before) if before is not None else time.monotonic() > settle
        if done or time.monotonic() > end:
            return now
        time.sleep(1.0)


def _links(directory: Path) -> Iterator[str]:
    for link in directory.iterdir():
        with contextlib.suppress(OSError):  # it is closed again
            yield str(link.readlink())


def _kind(link: str) -> str:
    """Return what a descriptor is, for whoever reads of one too many."""
    return "sockets" if link.startswith("socket:") else f"descriptors ({link.rpartition('/')[2]})"


def _files(root: Path) -> int:
    """Count what is below, but for what containers see of their own."""
    return sum(1 for path in root.rglob("*") if "rootfs" not in path.parts and "m" not in path.relative_to(root).parts)


def main() -> int:
    """Run as asked for."""
    parser = argparse.ArgumentParser(prog="make soak ARGS=…", description=__doc__)
    parser.add_argument("--execs", type=int, default=2000)
    parser.add_argument("--lives", type=int, default=500)
    asked = parser.parse_args()
    findings = soak(asked.execs, asked.lives)
    print("\n".join(findings) or "as it was before")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
