"""Damage by hand: ``sampan system check`` names each, ``--repair`` repairs it and touches nothing else."""

import hashlib
import json
import os
import random
import shutil
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.docker_client import DockerClient
from tests.support.engine import Engine, run_engine
from tests.support.images import Entry, Image, layer, push, sha256, tar
from tests.support.registry import Registry, run_registry
from tests.support.tools import eventually, settled
from tests.support.trees import BUSYBOX_CONFIG, busybox_tar

pytestmark = [pytest.mark.root]

TOP: Final = tar(Entry("mark", b"hello\n"), Entry("noise", random.Random(1).randbytes(3 << 20)))
IMAGE: Final = Image([layer(busybox_tar()), layer(TOP)], BUSYBOX_CONFIG)

# What changes by itself: databases, who holds a lock, what containers say.
_LIVELY: Final = ("metadata.db", "lock", "runtimes.json", "spool")


@dataclass(frozen=True, slots=True)
class Place:
    """An engine with one image, and where the parts of that are."""

    engine: Engine
    docker: DockerClient
    registry: Registry
    name: str

    @property
    def data(self) -> Path:
        return self.engine.layout.data_root

    def blob(self, digest: str) -> Path:
        return self.data / "imaged/blobs/sha256" / digest.removeprefix("sha256:")

    def layer(self, diff_id: str = sha256(TOP)) -> Path:
        """Where the snapshotter has a layer just now."""
        with closing(sqlite3.connect(self.data / "snapshotter/metadata.db")) as db:
            (number,) = db.execute("SELECT dir_id FROM layers WHERE diff_id = ?", (diff_id,)).fetchone()
        return self.data / "snapshotter/l" / str(number)

    def check(self, *flags: str) -> tuple[int, dict[str, Any]]:
        result = self.engine.sampan_fails("system", "check", "--format", "json", *flags)
        assert result.code in (0, 1), result.stderr
        return result.code, json.loads(result.stdout)

    def files(self) -> dict[str, tuple[int, int, str]]:
        """Everything on disk that does not change by itself: inode, time and digest."""
        found = {}
        for directory, _, names in os.walk(self.data):
            for path in (Path(directory) / name for name in names if not name.startswith(_LIVELY)):
                with suppress(FileNotFoundError):  # it was on its way out
                    status = path.lstat()
                    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
                    found[str(path.relative_to(self.data))] = (status.st_ino, status.st_mtime_ns, digest)
        return found

    def runs(self) -> None:
        assert self.docker("run", "--rm", "--network", "none", self.name, "cat", "/mark").stdout == "hello\n"

    def pull(self) -> None:
        self.docker("pull", "--quiet", self.name)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, docker_config: Path) -> Iterator[Place]:
    with run_registry(tmp_path_factory.mktemp("registry")) as registry, run_engine() as engine:
        push(registry, "whole", "1", IMAGE)
        made = Place(engine, DockerClient(engine.host, docker_config), registry, f"{registry.address}/whole:1")
        made.pull()
        made.runs()
        code, answer = made.check()
        assert (code, answer["findings"]) == (0, [])
        # The pass that every start brings sweeps strays as `--repair` does: once it is over, a test's are its own.
        for service in ("imaged", "snapshotter"):
            eventually(partial(has_collected, engine, service), f"the first garbage collection of {service}")
        yield made


def has_collected(engine: Engine, service: str) -> bool:
    text = urllib.request.urlopen(engine.metrics_url(service), timeout=60).read().decode()
    return 'sampan_gc_runs_total{outcome="done",trigger="start"}' in text


def flip(path: Path) -> None:
    """Change one bit, and not the time, as a bad disk would."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(status.st_size // 2)
        (byte,) = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zero_first_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(bytes(4096))


CONFIG: Final = IMAGE.id
MANIFEST: Final = sha256(IMAGE.manifest())
BLOB: Final = sha256(IMAGE.layers[1].blob)
DIFF_ID: Final = IMAGE.layers[1].diff_id
STRAY: Final = "sha256:" + "ab" * 32

Damage = Callable[[Place], object]

DAMAGES: Final[dict[str, tuple[str, str, Damage]]] = {
    "a truncated blob": ("blob-truncated", BLOB, lambda place: cut(place.blob(BLOB))),
    "a flipped bit in a layer's blob": ("blob-damaged", BLOB, lambda place: flip(place.blob(BLOB))),
    "a flipped bit in a config": ("blob-damaged", CONFIG, lambda place: flip(place.blob(CONFIG))),
    "a row without its file": ("blob-missing", BLOB, lambda place: place.blob(BLOB).unlink()),
    "a missing manifest": ("blob-missing", MANIFEST, lambda place: place.blob(MANIFEST).unlink()),
    "a file without its row": ("blob-orphan", STRAY, lambda place: place.blob(STRAY).write_bytes(b"stray")),
    "a missing EROFS file": ("layer-missing", DIFF_ID, lambda place: (place.layer() / "image").unlink()),
    "a removed layer directory": ("layer-missing", DIFF_ID, lambda place: shutil.rmtree(place.layer())),
    "a flipped bit in an EROFS image": ("layer-damaged", DIFF_ID, lambda place: flip(place.layer() / "image")),
    "a truncated EROFS image": ("layer-truncated", DIFF_ID, lambda place: cut(place.layer() / "image")),
    "a layer directory without its row": (
        "layer-orphan",
        "l/4711",
        lambda place: (place.data / "snapshotter/l/4711").mkdir(),
    ),
    "a snapshot directory without its row": (
        "snapshot-orphan",
        "s/4711",
        lambda place: (place.data / "snapshotter/s/4711/fs").mkdir(parents=True),
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_named_and_repaired_and_nothing_else_is_touched(place: Place, what: str) -> None:
    kind, subject, damage = DAMAGES[what]
    old_layer = str(place.layer().relative_to(place.data))
    settled(place.files, 0.2)  # what the test before has removed is gone
    before = place.files()
    damage(place)
    damaged = place.files()

    code, answer = place.check()
    named = [(finding["kind"], finding["subject"]) for finding in answer["findings"]]
    assert (code, named) == (1, [(kind, subject)])
    assert place.files() == damaged, "a check changes nothing"
    if "orphan" not in kind:
        assert answer["findings"][0]["affected"] == [place.name]

    code, answer = place.check("--repair")
    assert (code, [finding["repaired"] for finding in answer["findings"]]) == (0, [True]), answer
    repaired = place.files()
    assert place.check()[0] == 0
    concerned = {f"imaged/blobs/sha256/{subject.removeprefix('sha256:')}", f"{old_layer}/image"}
    concerned.add(f"{place.layer().relative_to(place.data)}/image")
    changed = {path for path in before.keys() | repaired.keys() if before.get(path) != repaired.get(path)}
    assert changed <= concerned
    place.runs()


@pytest.mark.parametrize("what", ["a truncated blob", "a row without its file", "a missing manifest"])
def test_damage_that_shows_by_its_size_is_repaired_by_pulling_again(place: Place, what: str) -> None:
    DAMAGES[what][2](place)
    place.pull()
    assert place.check()[1]["findings"] == []


@pytest.mark.parametrize("what", ["a missing EROFS file", "a truncated EROFS image", "a removed layer directory"])
def test_a_layer_that_is_gone_is_repaired_by_pulling_again(place: Place, what: str) -> None:
    DAMAGES[what][2](place)
    place.pull()
    assert [finding["kind"] for finding in place.check()[1]["findings"]] in ([], ["mount-broken"])
    place.check("--repair")
    place.runs()


@pytest.mark.parametrize("what", ["a flipped bit in a layer's blob", "a flipped bit in an EROFS image"])
def test_what_a_check_found_damaged_is_repaired_by_pulling_again(place: Place, what: str) -> None:
    DAMAGES[what][2](place)
    assert place.check()[0] == 1
    place.pull()
    assert place.check()[0] == 0
    place.runs()


def test_several_damages_are_repaired_at_once_the_blob_before_its_layer(place: Place) -> None:
    flip(place.blob(BLOB))
    (place.layer() / "image").unlink()
    code, answer = place.check("--repair")
    kinds = [finding["kind"] for finding in answer["findings"]]
    assert (code, kinds) == (0, ["blob-damaged", "layer-missing"]), answer
    assert place.check()[0] == 0
    place.runs()


def test_damage_that_no_registry_can_mend_stays_named(place: Place, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    place.docker("save", "--output", str(archive), place.name)
    place.docker("tag", place.name, "localhost:1/nowhere:1")
    place.docker("rmi", place.name)
    flip(place.blob(BLOB))
    code, answer = place.check("--repair")
    (finding,) = answer["findings"]
    assert (code, finding["repaired"]) == (1, False)
    assert finding["affected"] == ["localhost:1/nowhere:1"]
    assert "localhost:1" in finding["outcome"]
    place.docker("load", "--input", str(archive))
    assert place.check()[0] == 0, "an archive repairs as well as a registry"
    place.docker("rmi", "localhost:1/nowhere:1")
    place.pull()


def test_a_running_container_is_not_disturbed_by_its_layer_being_repaired(place: Place) -> None:
    container = place.docker("run", "--detach", "--network", "none", place.name, "sleep", "1000").line
    place.docker("exec", container, "cat", "/mark")
    (place.layer() / "image").unlink()
    code, answer = place.check("--repair")
    (finding,) = answer["findings"]
    assert code == 0
    assert any(name.endswith("(running)") for name in finding["affected"])
    assert place.docker("exec", container, "cat", "/mark").stdout == "hello\n"
    place.docker("restart", "-t", "0", container)
    assert place.docker("exec", container, "cat", "/mark").stdout == "hello\n"
    place.docker("rm", "--force", container)
    assert place.check()[0] == 0


def test_a_container_whose_directory_is_gone_begins_anew(place: Place) -> None:
    container = place.docker("create", "--network", "none", place.name, "cat", "/mark").line
    with closing(sqlite3.connect(place.data / "snapshotter/metadata.db")) as db:
        (number,) = db.execute("SELECT dir_id FROM snapshots WHERE key = ?", (container,)).fetchone()
    shutil.rmtree(place.data / "snapshotter/s" / str(number))
    code, answer = place.check()
    assert (code, answer["findings"][0]["kind"]) == (1, "snapshot-missing")
    assert place.check("--repair")[0] == 0
    assert place.docker("start", "--attach", container).stdout == "hello\n"
    place.docker("rm", container)


SQL: Final = {
    "blob-missing": ("imaged", f"DELETE FROM blobs WHERE digest = '{BLOB}'"),
    "row-broken": (
        "imaged",
        f"INSERT INTO names VALUES ('localhost:1/lost:1', 'localhost:1/lost', '{MANIFEST}', 0, '{STRAY}', 1)",
    ),
    "layer-missing": ("snapshotter", f"DELETE FROM layers WHERE diff_id = '{DIFF_ID}'"),
    "chain-broken": ("snapshotter", "UPDATE snapshots SET parent = 999999 WHERE parent IS NOT NULL"),
}


def test_rows_that_are_lost_are_named_and_repaired(place: Place) -> None:
    place.engine.stop()
    for service, statement in SQL.values():
        with closing(sqlite3.connect(place.data / service / "metadata.db", isolation_level=None)) as db:
            db.execute(statement)
    place.engine.start()
    code, answer = place.check()
    assert (code, {finding["kind"] for finding in answer["findings"]}) == (1, set(SQL))
    code, answer = place.check("--repair")
    assert (code, [finding["repaired"] for finding in answer["findings"]]) == (0, [True] * len(SQL)), answer
    assert place.check()[0] == 0
    place.runs()


def test_databases_whose_first_page_is_zeroed_are_named_and_repaired_without_loss(place: Place) -> None:
    services = ("imaged", "snapshotter", "runtimed")
    container = place.docker("create", "--network", "none", place.name, "cat", "/mark").line
    images = place.docker("images", "--no-trunc").stdout
    place.engine.stop()
    for service in services:
        zero_first_page(place.data / service / "metadata.db")
    place.engine.start(damaged=True)
    refused = place.docker.fails("run", "--rm", "--network", "none", place.name, "true")
    assert refused.code != 0
    assert "is damaged" in refused.stderr
    code, answer = place.check()
    named = [(finding["kind"], finding["subject"]) for finding in answer["findings"]]
    assert (code, named) == (1, [("database-damaged", f"{service}/metadata.db") for service in services])
    code, answer = place.check("--repair")
    assert code == 0, answer
    assert all(finding["outcome"].startswith("nothing is lost") for finding in answer["findings"])
    assert place.docker("images", "--no-trunc").stdout == images
    assert place.docker("start", "--attach", container).stdout == "hello\n"
    place.docker("rm", container)
    for service in services:
        (aside,) = (place.data / service).glob("metadata.db.damaged-*")
        aside.unlink()
    place.runs()


def test_a_database_that_is_gone_is_restored_from_its_copy(place: Place) -> None:
    place.engine.stop()
    (place.data / "imaged/metadata.db").unlink()
    place.engine.start(damaged=True)
    code, answer = place.check("--repair")
    assert code == 0, answer
    assert answer["findings"][0]["outcome"].startswith("lost: what changed after")
    place.runs()


def test_without_a_copy_images_come_back_without_their_names(place: Place) -> None:
    place.engine.stop()
    for name in ("metadata.db", "metadata.db.copy"):
        with (place.data / "imaged" / name).open("r+b") as file:
            file.write(bytes(1 << 20))
    place.engine.start(damaged=True)
    code, answer = place.check("--repair")
    assert answer["findings"][0]["outcome"].startswith("lost: everything")
    assert code == 0, answer
    assert place.docker("images", "--no-trunc", "--quiet").lines == [IMAGE.id]
    place.docker("tag", IMAGE.id, place.name)
    place.runs()
    for left in (place.data / "imaged").glob("metadata.db.lost-*"):
        left.unlink()


def test_text_says_what_would_mend_it(place: Place) -> None:
    flip(place.blob(BLOB))
    shown = place.engine.sampan_fails("system", "check")
    assert shown.code == 1
    assert f"blob-damaged: {BLOB}" in shown.stdout
    assert f"remedy:  fetch it from {place.registry.address}/whole" in shown.stdout
    assert "Repair it with: sampan system check --repair" in shown.stdout
    repaired = place.engine.sampan("system", "check", "--repair")
    assert "1 found, all repaired." in repaired.stdout


def test_metrics_count_checks_findings_and_repairs(place: Place) -> None:
    cut(place.blob(BLOB))
    place.check("--repair")

    def read() -> dict[str, str]:
        text = urllib.request.urlopen(place.engine.metrics_url("imaged"), timeout=60).read().decode()
        return dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("sampan_check_"))

    repaired = 'sampan_check_repairs_total{kind="blob-truncated",result="repaired"}'
    eventually(lambda: float(read().get(repaired, 0)) >= 1, "the repair is counted")
    samples = read()
    assert float(samples['sampan_check_runs_total{outcome="damaged"}']) >= 1
    assert float(samples['sampan_check_findings_total{kind="blob-truncated"}']) >= 1
    assert float(samples['sampan_check_repairs_total{kind="blob-truncated",result="repaired"}']) >= 1
    assert float(samples["sampan_check_seconds_count"]) >= 1


def test_an_engine_that_is_down_is_not_said_to_be_whole(place: Place) -> None:
    place.engine.stop()
    assert place.engine.sampan_fails("system", "check").code == 125
    place.engine.start()
