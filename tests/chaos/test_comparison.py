"""Each check of a chaos run finds what it is there for: something is planted, and it is named."""

import contextlib
import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import pytest

from runtimed.network.core.names import KernelNames
from tests.chaos.run.answers import pids_below
from tests.chaos.run.campaign import IMAGE, load_base
from tests.chaos.run.comparison import builds, networking, processes, storage
from tests.chaos.run.comparison.compare import COLLECTED, Check, compare
from tests.chaos.run.comparison.view import Shown, View, view_of
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.footprint import control_groups
from tests.support.tools import eventually, need, need_root

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]

STRAY: Final = "f" * 64


@dataclass(frozen=True, slots=True)
class Place:
    """An engine with one container that runs, and what it says of itself."""

    engine: Engine
    view: View

    @property
    def shown(self) -> Shown:
        """The container."""
        return self.view.containers[0]

    @property
    def names(self) -> KernelNames:
        """What its objects are called in the kernel."""
        return KernelNames.of(self.engine.layout)

    def run(self, path: str) -> Path:
        """A path below the run root."""
        return self.engine.layout.run_root / path

    def data(self, path: str) -> Path:
        """A path below the data root."""
        return self.engine.layout.data_root / path


Plant = Callable[[Place], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    need_root()
    need("docker", "conmon", "nft", "ip", "nsenter", "unshare")
    with run_engine() as engine:
        load_base(engine)
        docker = DockerClient(engine.host, engine.config)
        docker("network", "create", "side")
        docker("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "-v", "data:/v", IMAGE, "sleep", "1000000")
        yield Place(engine, view_of(engine))
        docker("rm", "--force", "web")
        docker("network", "rm", "side")


@contextlib.contextmanager
def _still(place: Place) -> Iterator[None]:
    """Keep runtimed, which repairs the firewall, from doing anything."""
    pid = place.engine.pid("runtimed")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _entry(path: Callable[[Place], Path], *, directory: bool = False) -> Plant:
    @contextlib.contextmanager
    def plant(place: Place) -> Iterator[None]:
        entry = path(place)
        entry.parent.mkdir(exist_ok=True)
        if directory:
            entry.mkdir()
        else:
            entry.write_bytes(b"")
        try:
            yield
        finally:
            entry.rmdir() if directory else entry.unlink()

    return plant


def _commands(do: Callable[[Place], str], undo: Callable[[Place], str]) -> Plant:
    @contextlib.contextmanager
    def plant(place: Place) -> Iterator[None]:
        with _still(place):
            subprocess.run(["sh", "-ec", do(place)], check=True)
            try:
                yield
            finally:
                subprocess.run(["sh", "-ec", undo(place)], check=True)

    return plant


def _row(database: Callable[[Place], Path], do: str, undo: str) -> Plant:
    @contextlib.contextmanager
    def plant(place: Place) -> Iterator[None]:
        with closing(sqlite3.connect(database(place), timeout=30, isolation_level=None)) as connection:
            connection.execute(do)
            try:
                yield
            finally:
                connection.execute(undo)

    return plant


def _process(*words: str) -> Plant:
    @contextlib.contextmanager
    def plant(place: Place) -> Iterator[None]:
        arguments = [*words, str(place.run("stray"))]
        process = subprocess.Popen(arguments, executable="/bin/sh", stdin=subprocess.PIPE)
        eventually(lambda: process.pid in pids_below(place.engine.layout.run_root), "the process has its arguments")
        try:
            yield
        finally:
            process.communicate()

    return plant


@contextlib.contextmanager
def _group(place: Place) -> Iterator[None]:
    group = min(control_groups(place.engine.layout), key=lambda each: len(each.parts)) / STRAY
    group.mkdir()
    try:
        yield
    finally:
        group.rmdir()


def _tmpfs(path: str) -> Plant:
    return _commands(
        lambda place: f"mkdir -p {place.run(path)}; mount -t tmpfs stray {place.run(path)}",
        lambda place: f"umount --lazy {place.run(path)}; rmdir -p --ignore-fail-on-non-empty {place.run(path)}",
    )


def _below(path: str) -> Plant:
    return _entry(lambda place: place.run(path) if path.startswith("runtimed/") else place.data(path))


def _database(service: str) -> Callable[[Place], Path]:
    return lambda place: place.data(f"{service}/metadata.db")


def _cache(place: Place) -> Path:
    return place.data("buildd/cache.db")


@contextlib.contextmanager
def _step_group(place: Place) -> Iterator[None]:
    engine = min(control_groups(place.engine.layout), key=lambda each: len(each.parts))
    there = (engine / "steps").exists()
    (engine / "steps" / STRAY).mkdir(parents=True)
    try:
        yield
    finally:
        (engine / "steps" / STRAY).rmdir()
        if not there:
            (engine / "steps").rmdir()


_result: Final = _row(
    _cache,
    "INSERT INTO record_layers VALUES ('stray', 0, '', 'sha256:stray', 1, 'sha256:stray')",
    "DELETE FROM record_layers WHERE record = 'stray'",
)
_layer: Final = _row(
    _database("snapshotter"),
    "INSERT INTO layers (diff_id, dir_id, format, size_bytes, inodes, complete, applied_at_ns, holds, held_until_ns) "
    "VALUES ('sha256:stray', 999999, 'tree', 1, 1, 0, 0, 0, 0)",
    "DELETE FROM layers WHERE diff_id = 'sha256:stray'",
)

PLANTED: Final[tuple[tuple[Check, str, Plant], ...]] = (
    (processes.services, "works for the engine and is none of its", _process("stray", "-c", "read x", "sh")),
    (processes.monitors, "which does not run", _process("conmon", "-c", "read x")),
    (processes.groups, STRAY, _group),
    (networking.namespaces, f"namespace {STRAY}", _below(f"runtimed/network/netns/{STRAY}")),
    (networking.namespaces, f"record of a network {STRAY}", _below(f"runtimed/network/sandboxes/{STRAY}")),
    (
        networking.interfaces,
        "interface vestray0 of nobody",
        _commands(
            lambda place: (
                f"ip link add vestray0 type veth peer name vestray1; "
                f"ip link set vestray0 master {place.names.default_bridge}"
            ),
            lambda place: "ip link delete vestray0",
        ),
    ),
    (
        networking.interfaces,
        "bridge brstray0 of nobody",
        _commands(
            lambda place: f"ip link add brstray0 type bridge; ip link set brstray0 alias '{place.names.owner}{STRAY}'",
            lambda place: "ip link delete brstray0",
        ),
    ),
    (
        networking.addresses,
        "192.0.2.7 of nobody",
        _commands(
            lambda place: f"nsenter -t {place.shown.pid} -n ip address add 192.0.2.7/32 dev eth0",
            lambda place: f"nsenter -t {place.shown.pid} -n ip address delete 192.0.2.7/32 dev eth0",
        ),
    ),
    (
        networking.rules,
        "rule 127.0.0.1 . tcp . 9 : 192.0.2.7 . 9 of nobody",
        _commands(
            lambda place: (
                f"nft add element ip {place.names.table} published_at '{{ 127.0.0.1 . tcp . 9 : 192.0.2.7 . 9 }}'"
            ),
            lambda place: (
                f"nft delete element ip {place.names.table} published_at '{{ 127.0.0.1 . tcp . 9 : 192.0.2.7 . 9 }}'"
            ),
        ),
    ),
    (
        networking.rules,
        "table names bridge brstray0",
        _commands(
            lambda place: f"nft add element ip {place.names.table} bridges '{{ brstray0 }}'",
            lambda place: f"nft delete element ip {place.names.table} bridges '{{ brstray0 }}'",
        ),
    ),
    (
        networking.chains,
        "rule forward: ip saddr 192.0.2.7 accept of nobody",
        _commands(
            lambda place: f"nft insert rule ip {place.names.table} forward ip saddr 192.0.2.7 accept",
            lambda place: (
                f"nft delete rule ip {place.names.table} forward handle "
                f"$(nft -a list chain ip {place.names.table} forward | sed -n 's/.*192.0.2.7.*handle //p')"
            ),
        ),
    ),
    (
        networking.chains,
        "is missing",
        _commands(
            lambda place: f"nft flush chain ip {place.names.table} raw",
            lambda place: "true",  # runtimed puts it back
        ),
    ),
    (
        networking.chains,
        'routed: "brstray0" of nobody',
        _commands(
            lambda place: f"nft add element ip {place.names.table} routed '{{ brstray0 }}'",
            lambda place: f"nft delete element ip {place.names.table} routed '{{ brstray0 }}'",
        ),
    ),
    (storage.mounted, "mount", _tmpfs("stray")),
    (storage.mounted, "of nobody", _tmpfs(f"runtimed/bundles/{STRAY}/rootfs")),
    (
        storage.mounted,
        "is mounted 2 times",
        _commands(
            lambda place: f"mount -t tmpfs stray {place.run(f'runtimed/bundles/{place.shown.id}/rootfs')}",
            lambda place: f"umount --lazy {place.run(f'runtimed/bundles/{place.shown.id}/rootfs')}",
        ),
    ),
    (storage.files, f"bundle {STRAY}", _entry(lambda place: place.run(f"runtimed/bundles/{STRAY}"), directory=True)),
    (storage.files, f"exit file {STRAY}", _below(f"runtimed/exits/{STRAY}")),
    (storage.files, f"attach link {STRAY[:16]}", _below(f"runtimed/attach/{STRAY[:16]}")),
    (storage.files, f"exec {STRAY}", _below(f"runtimed/execs/{STRAY}")),
    (storage.files, f"container's directory {STRAY}", _entry(lambda place: place.data(f"runtimed/containers/{STRAY}"))),
    (storage.files, "volume stray", _entry(lambda place: place.data("runtimed/volumes/stray"))),
    (storage.files, "snapshot's directory stray", _below("snapshotter/s/stray")),
    (storage.files, "layer's directory stray", _below("snapshotter/l/stray")),
    (storage.files, f"blob {STRAY}", _below(f"imaged/blobs/sha256/{STRAY}")),
    (
        storage.files,
        f"snapshot {STRAY[:12]} of no container",
        _row(
            _database("snapshotter"),
            "INSERT INTO snapshots (id, key, kind, dir_id, created_at_ns, updated_at_ns) "
            f"VALUES (999999, '{STRAY}', 'active', 999999, 0, 0)",
            "DELETE FROM snapshots WHERE id = 999999",
        ),
    ),
    (
        storage.records,
        f"container {STRAY[:12]} is still removing",
        _row(
            _database("runtimed"),
            f"INSERT INTO states (id, intent, state, network) VALUES ('{STRAY}', 'removing', '{{}}', '{{}}')",
            f"DELETE FROM states WHERE id = '{STRAY}'",
        ),
    ),
    (storage.leftovers, "ingest stray", _below("imaged/ingest/stray")),
    (storage.leftovers, "partials stray", _below("imaged/partials/stray")),
    (storage.leftovers, "staging stray", _below("snapshotter/staging/stray")),
    (storage.leftovers, "trash stray", _below("snapshotter/trash/stray")),
    (
        storage.leftovers,
        "stray-lease",
        _row(
            _database("imaged"),
            "INSERT INTO leases (id, expires_ns, complete, source) VALUES ('stray-lease', 9000000000000000000, 1, '')",
            "DELETE FROM leases WHERE id = 'stray-lease'",
        ),
    ),
    (
        builds.steps,
        f"steps/{STRAY} of a step",
        _entry(lambda place: place.run(f"runtimed/steps/{STRAY}"), directory=True),
    ),
    (
        builds.steps,
        f"step-snapshots/{STRAY} of a step",
        _entry(lambda place: place.run(f"runtimed/step-snapshots/{STRAY}"), directory=True),
    ),
    (builds.steps, f"steps/{STRAY} of a step", _entry(lambda place: place.data(f"runtimed/steps/{STRAY}"))),
    (builds.steps, "stray of a step", _entry(lambda place: place.run("buildd/files/stray"))),
    (builds.steps, f"steps/{STRAY} of a step, with []", _step_group),
    (
        builds.cache,
        "record of the build cache stray of nobody",
        _entry(lambda place: place.data("buildd/sources/local/stray"), directory=True),
    ),
    (builds.cache, "cache mount stray of nobody", _below("buildd/cache-mounts/stray")),
    (
        builds.cache,
        "lease stray of nobody",
        _row(
            _database("imaged"),
            "INSERT INTO leases (id, expires_ns, complete, source, owner) "
            "VALUES ('build-cache-stray', 9000000000000000000, 1, '', 'buildd')",
            "DELETE FROM leases WHERE id = 'build-cache-stray'",
        ),
    ),
    (builds.cache, "lease stray is missing", _result),
    (builds.cache, "result stray has lost its blob sha256:stray", _result),
    (builds.cache, "result stray has lost its layer sha256:stray", _result),
    (
        builds.cache,
        "cache mount stray is missing",
        _row(
            _cache,
            "INSERT INTO cache_mounts (id, name, base, description, created_ns, used_ns) "
            "VALUES ('stray', '', '', '', 0, 0)",
            "DELETE FROM cache_mounts WHERE id = 'stray'",
        ),
    ),
    (builds.pruned, "scratch/stray after a prune", _below("buildd/sources/scratch/stray")),
    (builds.pruned, "stray.index after a prune", _below("buildd/stray.index")),
    (
        builds.pruned,
        "blob sha256:stray of no image",
        _row(
            _database("imaged"),
            "INSERT INTO blobs (digest, size_bytes, created_ns, updated_ns) VALUES ('sha256:stray', 1, 0, 0)",
            "DELETE FROM blobs WHERE digest = 'sha256:stray'",
        ),
    ),
    (builds.pruned, "layer sha256:stray of no image", _layer),
    (storage.disk, "stray", _entry(lambda place: place.data("stray"))),
)


def test_where_all_is_as_it_should_be_no_check_finds_anything(place: Place) -> None:
    assert compare(place.engine, COLLECTED) == []


@pytest.mark.parametrize(("check", "named", "plant"), PLANTED, ids=[f"{c.__name__}: {n[:40]}" for c, n, _ in PLANTED])
def test_what_is_planted_is_named(place: Place, check: Check, named: str, plant: Plant) -> None:
    with plant(place):
        findings = check(place.engine, place.view)
    assert any(named in finding for finding in findings), findings


def test_a_process_that_inspect_shows_and_that_is_another_is_named(place: Place) -> None:
    for pid, words in ((os.getpid(), "other control groups"), (1 << 22, "is not there")):
        other = replace(place.view, containers=(replace(place.shown, pid=pid),))
        (finding,) = processes.first_processes(place.engine, other)
        assert words in finding


def test_two_containers_with_one_address_are_named(place: Place) -> None:
    other = replace(place.view, containers=(place.shown, replace(place.shown, id=STRAY)))
    address = place.shown.endpoints[0].address
    named = f"{STRAY[:12]} and {place.shown.id[:12]} both have {address}"
    assert named in networking.addresses(place.engine, other)


def test_each_check_has_something_planted_for_it() -> None:
    assert {check for check, _, _ in PLANTED} | {processes.first_processes} == set(COLLECTED)
