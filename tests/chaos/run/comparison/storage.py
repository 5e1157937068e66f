"""Mounts, files and records of every service, and the disk to the byte."""

import subprocess
from pathlib import Path

from tests.chaos.run.comparison.view import View, rows
from tests.support.disk import explained
from tests.support.engine import Engine
from tests.support.footprint import mounts


def mounted(engine: Engine, view: View) -> list[str]:
    """Roots of running containers, layers that are there, network namespaces; nothing twice."""
    run = engine.layout.run_root
    points = mounts(engine.layout)
    layers = {
        str(identity)
        for (identity,) in rows(engine.layout.data("snapshotter") / "metadata.db", "SELECT dir_id FROM layers")
    }
    findings = [f"{point} is mounted {points.count(point)} times" for point in set(points) if points.count(point) > 1]
    roots = set()
    for point in map(Path, points):
        below = point.relative_to(run).parts if point.is_relative_to(run) else ()
        match below:
            case ("m", layer) if layer in layers:
                pass
            case ("runtimed", "bundles", container, "rootfs" | "shm") if container in view.up:
                roots.add(container)
            case ("runtimed", "network", "netns", container) if container in view.up:
                pass
            case _:
                findings.append(f"mount {point} of nobody")
    return findings + [f"container {identity[:12]} runs and its root is not mounted" for identity in view.up - roots]


def files(engine: Engine, view: View) -> list[str]:
    """Bundles, exit files, attach sockets of running containers; homes and snapshots of all; volumes."""
    run, data = engine.layout.run("runtimed"), engine.layout.data("runtimed")
    every = {shown.id for shown in view.containers}
    snapshotter, imaged = engine.layout.data("snapshotter"), engine.layout.data("imaged")
    database = snapshotter / "metadata.db"
    keys = {key for (key,) in rows(database, "SELECT key FROM snapshots WHERE kind = 'active'")}
    directories = {
        str(identity) for (identity,) in rows(database, "SELECT dir_id FROM snapshots WHERE dir_id IS NOT NULL")
    }
    layers = {str(identity) for (identity,) in rows(database, "SELECT dir_id FROM layers")}
    blobs = {digest.partition(":")[2] for (digest,) in rows(imaged / "metadata.db", "SELECT digest FROM blobs")}
    execs = {identity for (identity,) in rows(data / "metadata.db", "SELECT id FROM execs")}
    links = {identity[:16] for identity in view.up} | {identity[:16] for identity in execs}
    return [
        *_unknown("bundle", run / "bundles", set(view.up)),
        *_unknown("exit file", run / "exits", set(view.up)),
        *_unknown("attach link", run / "attach", links),
        *_unknown("directory of an exec", run / "execs", execs),
        *_same("container's directory", data / "containers", every),
        *_same("volume", data / "volumes", set(view.volumes)),
        *_same("snapshot's directory", snapshotter / "s", directories),
        *_same("layer's directory", snapshotter / "l", layers),
        *_same("blob", imaged / "blobs/sha256", blobs),
        *(f"snapshot {key[:12]} of no container" for key in keys - every),
        *(f"container {identity[:12]} has no snapshot" for identity in every - keys),
    ]


def leftovers(engine: Engine, view: View) -> list[str]:
    """No lease, ingest, partial download, hold or half-made directory is left when nobody works."""
    imaged, snapshotter = engine.layout.data("imaged"), engine.layout.data("snapshotter")
    leases = rows(imaged / "metadata.db", "SELECT id, complete, abandoned, source FROM leases")
    findings = [f"lease {lease}" for lease in leases]
    for directory in (imaged / "ingest", imaged / "partials", snapshotter / "staging", snapshotter / "trash"):
        findings += _unknown(directory.name, directory, set())
    return findings


def records(engine: Engine, view: View) -> list[str]:
    """No container is between two states when nobody works, and none is paused that nobody has paused."""
    found = rows(
        engine.layout.data("runtimed") / "metadata.db",
        "SELECT id, intent, state FROM states WHERE intent <> 'settled'",
    )
    return [f"container {identity[:12]} is still {intent}: {state[:200]}" for identity, intent, state in found]


def disk(engine: Engine, view: View) -> list[str]:
    """``du`` and ``system df --explain`` agree to the byte, and everything has an owner."""
    before = _du(engine.layout.data_root)
    said = explained(engine)
    if _du(engine.layout.data_root) != before:
        return ["the disk does not come to rest"]
    total = sum(one["Size"] for one in said)
    findings = [f"{one['Owner']}: {one}" for one in said if one["Owner"] in ("orphan", "foreign")]
    if total != before:
        findings.append(f"du says {before} bytes, --explain {total}: {before - total} are nobody's")
    return findings


def _du(directory: Path) -> int:
    command = ["du", "--summarize", "--one-file-system", "--block-size=1", str(directory)]
    return int(subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()[0])


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.is_dir() else set()


def _unknown(what: str, directory: Path, known: set[str]) -> list[str]:
    return [f"{what} {name} of nobody" for name in sorted(_names(directory) - known)]


def _same(what: str, directory: Path, known: set[str]) -> list[str]:
    return _unknown(what, directory, known) + [
        f"{what} {name} is missing" for name in sorted(known - _names(directory))
    ]
