"""What builds leave: nothing of their steps, and of their results what the build cache lists, and nothing else."""

import re
from typing import Final

from tests.chaos.run.comparison.view import View, rows
from tests.support.engine import Engine
from tests.support.footprint import control_groups

_LEASE: Final = "build-cache-"  # before a record's ID
_PLACES: Final = ("cache-mounts", "sources/local", "sources/http", "sources/scratch")
_BLOBS: Final = "SELECT digest FROM blobs"
_LAYERS: Final = "SELECT diff_id FROM layers"
_OWN: Final = re.compile(r"cache\.db(-wal|-shm|\.copy|\.reserve)?|id|lock|unfinished|empty")


def steps(engine: Engine, view: View) -> list[str]:
    """No step is there: no bundle, mount, scratch or control group, and nothing that builds work with."""
    run, data, builder = engine.layout.run("runtimed"), engine.layout.data("runtimed"), engine.layout.run("buildd")
    places = (run / "steps", run / "step-snapshots", data / "steps", builder / "files", builder / "ssh")
    found = [f"{path} of a step" for place in places if place.is_dir() for path in place.iterdir()]
    groups = [group for group in control_groups(engine.layout) if group.parent.name == "steps"]
    return found + [
        f"control group {group} of a step, with {(group / 'cgroup.procs').read_text().split()}" for group in groups
    ]


def cache(engine: Engine, view: View) -> list[str]:
    """What prune would find is what is on disk: rows, leases, directories, each with the others that belong to it."""
    data = engine.layout.data("buildd")
    results = {identity for (identity,) in rows(data / "cache.db", "SELECT id FROM records")}
    mounts = {identity for (identity,) in rows(data / "cache.db", "SELECT id FROM cache_mounts")}
    directories = {path.name for path in (data / "cache-mounts").iterdir()}
    copies = {path.name for path in (data / "sources" / "local").iterdir()}
    return [
        *_same("record of the build cache", results | mounts | copies, set(view.build_cache)),
        *_same("cache mount", directories, mounts),
        *_leases(engine, results),
    ]


def _leases(engine: Engine, results: set[str]) -> list[str]:
    imaged, snapshotter = (engine.layout.data(name) / "metadata.db" for name in ("imaged", "snapshotter"))
    cache = engine.layout.data("buildd") / "cache.db"
    layers = rows(cache, "SELECT record, digest, diff_id FROM record_layers")
    owned = {identity for (identity,) in rows(imaged, "SELECT id FROM leases WHERE owner = 'buildd'")}
    blobs = {digest for (digest,) in rows(imaged, "SELECT digest FROM blobs")}
    stored = {diff_id for (diff_id,) in rows(snapshotter, "SELECT diff_id FROM layers")}
    return [
        *_same("lease", {each.removeprefix(_LEASE) for each in owned}, {record for record, _, _ in layers}),
        *(f"result {record} has lost its blob {digest}" for record, digest, _ in layers if digest not in blobs),
        *(f"result {record} has lost its layer {diff_id}" for record, _, diff_id in layers if diff_id not in stored),
        *(f"result {record} of nobody" for record in {record for record, _, _ in layers} - results),
    ]


def pruned(engine: Engine, view: View) -> list[str]:
    """After a prune of everything there is no cache, the builder has no files but its own, and nothing else is left."""
    data = engine.layout.data("buildd")
    imaged, snapshotter = (engine.layout.data(name) / "metadata.db" for name in ("imaged", "snapshotter"))
    used = {digest for (digest,) in rows(imaged, "SELECT digest FROM image_blobs")}
    needed = {diff_id for (diff_id,) in rows(imaged, "SELECT diff_id FROM image_layers")}
    return [
        *(f"blob {each} of no image" for (each,) in rows(imaged, _BLOBS) if each not in used),
        *(f"layer {each} of no image" for (each,) in rows(snapshotter, _LAYERS) if each not in needed),
        *(f"{path} after a prune" for path in data.rglob("*") if path.is_file() and not _OWN.fullmatch(path.name)),
        *(f"{path} after a prune" for place in _PLACES for path in (data / place).iterdir()),
    ]


def _same(what: str, found: set[str], expected: set[str]) -> list[str]:
    return [f"{what} {each} of nobody" for each in sorted(found - expected)] + [
        f"{what} {each} is missing" for each in sorted(expected - found)
    ]
