"""Where the disk has gone, as docker and sampan say it, and how it comes back."""

import asyncio
import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from sampan.engine.engine import Engine as Connection
from tests.compat.conftest import TARGET
from tests.support.disk import archive_of, explained
from tests.support.docker_client import DockerClient
from tests.support.engine import Engine
from tests.support.images import Entry, Image, layer, tar
from tests.support.tools import eventually

Unique = Callable[[str], str]

ours = pytest.mark.skipif(TARGET is not None, reason="about the engine's own commands")

# Between what is said and what is counted the databases' logs may grow.
ALLOWANCE_BYTES = 1 << 20


def small(*texts: str, **labels: str) -> Image:
    """An image of one layer per text."""
    layers = [layer(tar(Entry(text, text.encode() * 5000)), "none") for text in texts]
    return Image(layers, {"Labels": labels, "Cmd": ["sh"]})


def load(docker: DockerClient, path: Path, **images: Image) -> None:
    path.write_bytes(archive_of({f"{name}:1": image for name, image in images.items()}))
    docker("load", "--quiet", "--input", str(path))


def du(engine: Engine) -> int:
    """Bytes below the data root."""
    counted = subprocess.run(
        ["du", "--summarize", "--one-file-system", "--block-size=1", str(engine.layout.data_root)],
        capture_output=True,
        text=True,
        check=False,  # of a file that has just gone it says so, and goes on
    )
    return int(counted.stdout.split()[0])


@ours
def test_what_is_explained_adds_up_to_what_du_says(
    engine: Engine, docker: DockerClient, image: str, container_name: Callable[[], str]
) -> None:
    volume = f"{(container := container_name())}-volume"
    write = "head -c 3000000 /dev/urandom > /written; head -c 2000000 /dev/urandom > /v/written; echo logged"
    docker("run", "--name", container, "--volume", f"{volume}:/v", image, "sh", "-c", write)
    engine.sampan("system", "gc", "--leftovers")
    strange = engine.layout.data_root / "strange"
    strange.mkdir()
    (strange / "file").write_bytes(bytes(1_000_000))
    # Between the two looks what was thrown away may go.
    eventually(lambda: abs(sum(one["Size"] for one in explained(engine)) - du(engine)) < ALLOWANCE_BYTES, "it adds up")
    said = explained(engine)
    assert not [one for one in said if one["Owner"] == "orphan"]
    shown = {(one["Kind"], holder.get("Names", [holder.get("ID")])[0]) for one in said for holder in one["HeldBy"]}
    assert {("container", container), ("snapshot", container), ("volume", volume)} <= shown
    (foreign,) = [one for one in said if one["Owner"] == "foreign"]
    assert (foreign["ID"], foreign["Size"] >= 1_000_000) == ("strange", True)
    shutil.rmtree(strange)
    docker("rm", container)
    docker("volume", "rm", volume)


@ours
def test_everyone_who_holds_something_is_named(
    engine: Engine, docker: DockerClient, tmp_path: Path, unique: Unique, container_name: Callable[[], str]
) -> None:
    one, two = unique("one"), unique("two")
    load(docker, tmp_path / "x", **{one: small("shared", one), two: small("shared", two)})
    docker("create", "--name", (container := container_name()), f"{two}:1")
    docker("rmi", "--force", f"{two}:1")
    layers = {entry["ID"]: entry for entry in explained(engine) if entry["Kind"] == "layer"}
    by_text = {text: layers[small(text).layers[0].diff_id] for text in ("shared", one, two)}

    def holders(text: str) -> list[tuple[str, list[str]]]:
        return [(holder["Kind"], holder.get("Names", [])) for holder in by_text[text]["HeldBy"]]

    assert holders(one) == [("image", [f"{one}:1"])]
    assert holders(two) == [("container", [container])]
    assert holders("shared") == [("image", [f"{one}:1"]), ("container", [container])]
    snapshots = [entry for entry in explained(engine) if entry["Kind"] == "snapshot"]
    assert [container] in [holder.get("Names") for entry in snapshots for holder in entry["HeldBy"]]
    docker("rm", container)
    assert small(two).layers[0].diff_id not in {entry["ID"] for entry in explained(engine)}
    docker("rmi", f"{one}:1")


@ours
def test_what_is_leased_says_until_when(engine: Engine) -> None:
    async def leased() -> str:
        async def chunks() -> AsyncIterator[bytes]:
            yield tar(Entry("file", b"leased"))

        async with Connection.connect(engine.layout) as connection:
            imported = await connection.images.import_root(chunks())
            held = {entry["ID"]: entry["HeldBy"] for entry in explained(engine)}
            await connection.images.release(imported.lease)
        (holder,) = held[imported.image_id]
        assert holder["Kind"] == "lease"
        assert holder["ID"] == imported.lease
        return str(holder["Expires"])

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", asyncio.run(leased()))


@ours
def test_passes_and_what_they_left_are_metrics(engine: Engine) -> None:
    for service, kind in (("imaged", "blob"), ("snapshotter", "layer")):
        begin = time.time()
        engine.sampan("system", "gc", "--leftovers")

        def read(service: str = service) -> dict[str, float]:
            text = urllib.request.urlopen(engine.metrics_url(service), timeout=60).read().decode()
            lines = [line for line in text.splitlines() if line[:1] != "#"]
            return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}

        last = "sampan_gc_last_run_timestamp_seconds"
        eventually(lambda: read()[last] > begin - 1, "the pass is counted")  # noqa: B023  # before the next one
        values = read()
        assert values['sampan_gc_runs_total{outcome="done",trigger="request"}'] >= 1
        assert values["sampan_gc_seconds_count"] >= 1
        assert f'sampan_gc_freed_bytes_total{{kind="{kind}"}}' in values
        stored = {key: size for key, size in values.items() if key.startswith(f'sampan_store_bytes{{kind="{kind}"')}
        assert all(size > 0 and "orphan" not in key for key, size in stored.items())


def test_df_shows_what_images_share_and_what_is_their_own(
    docker: DockerClient, tmp_path: Path, unique: Unique, container_name: Callable[[], str]
) -> None:
    one, two = unique("one"), unique("two")
    load(docker, tmp_path / "x", **{one: small("same", one), two: small("same", two)})
    docker("create", "--name", (container := container_name()), f"{two}:1")
    shown = docker("system", "df", "--verbose", "--format", "{{json .}}").stdout
    images = {row["Repository"]: row for row in json.loads(shown)["Images"]}
    assert (images[one]["Containers"], images[two]["Containers"]) == ("0", "1")
    for name in (one, two):
        assert images[name]["SharedSize"] != "0B"
        assert images[name]["UniqueSize"] != images[name]["Size"]
    rows = {row["Names"]: row for row in json.loads(shown)["Containers"]}
    assert rows[container]["LocalVolumes"] == "0"
    lines = docker("system", "df").lines
    assert [line.split("  ")[0] for line in lines] == ["TYPE", "Images", "Containers", "Local Volumes", "Build Cache"]
    docker("rm", container)
    docker("rmi", f"{one}:1", f"{two}:1")


@ours
def test_prune_reclaims_what_it_says(engine: Engine, docker: DockerClient, tmp_path: Path, unique: Unique) -> None:
    label = unique("label")
    load(
        docker, tmp_path / "x", **{unique("a"): small("p", "q", group=label), unique("b"): small("p", "r", group=label)}
    )
    engine.sampan("system", "gc")
    before = sum(one["Size"] for one in explained(engine) if one["Kind"] in ("blob", "layer"))
    said = docker("image", "prune", "--all", "--force", "--filter", f"label=group={label}")
    after = sum(one["Size"] for one in explained(engine) if one["Kind"] in ("blob", "layer"))
    assert said.stdout.count("deleted: sha256:") == 5, "two images, and three layers"
    total = re.fullmatch(r"Total reclaimed space: ([\d.]+)kB", said.lines[-1])
    assert total is not None
    # A file takes whole blocks, and a layer's directory one of its own.
    assert 0 <= before - after - float(total[1]) * 1000 < 15 * 8192


def test_prune_takes_what_its_filters_leave(docker: DockerClient, tmp_path: Path, unique: Unique) -> None:
    keep, drop, label = unique("keep"), unique("drop"), unique("label")
    images = {keep: small(keep, group=label, keep="yes"), drop: small(drop, group=label)}
    load(docker, tmp_path / "x", **images)
    docker("image", "prune", "--force", "--filter", f"label=group={label}")
    assert docker("images", "--quiet", "--filter", f"label=group={label}").lines != [], "they have names"
    prune = ("image", "prune", "--all", "--force", "--filter", f"label=group={label}")
    docker(*prune, "--filter", "until=2020-01-01T00:00:00")
    docker(*prune, "--filter", "label!=keep")
    assert docker("images", "--format", "{{.Repository}}", "--filter", f"label=group={label}").lines == [keep]
    docker(*prune)
    assert docker("images", "--quiet", "--filter", f"label=group={label}").lines == []
    assert "invalid filter" in docker.fails("image", "prune", "--force", "--filter", "reference=x").stderr


def test_images_are_listed_by_every_filter(docker: DockerClient, tmp_path: Path, unique: Unique) -> None:
    old, new, label = unique("old"), unique("new"), unique("label")
    load(docker, tmp_path / "x", **{old: small(old, group=label)})
    docker("create", "--name", (made := unique("made")), f"{old}:1")
    docker("commit", "--change", f"LABEL new={label}", made, f"{new}:2")

    def listed(*filters: str) -> list[str]:
        flags = [word for text in (f"label=group={label}", *filters) for word in ("--filter", text)]
        return sorted(docker("images", "--format", "{{.Repository}}:{{.Tag}}", *flags).lines)

    assert listed() == sorted([f"{old}:1", f"{new}:2"])
    assert listed(f"label=new={label}") == [f"{new}:2"]
    assert listed(f"before={new}:2") == [f"{old}:1"]
    assert listed(f"since={old}:1") == [f"{new}:2"]
    assert listed(f"reference={old}") == [f"{old}:1"]
    assert listed(f"reference={new[:-3]}*:2") == [f"{new}:2"]
    assert listed("until=24h") == [f"{old}:1"]
    assert listed("dangling=true") == []
    docker("tag", f"{old}:1", f"{new}:2")
    assert len(docker("images", "--quiet", "--filter", "dangling=true", "--filter", f"label=new={label}").lines) == 1
    assert "No such image" in docker.fails("images", "--filter", "before=nothing-of-that-name").stderr
    docker("rm", made)
    docker("system", "prune", "--force", "--filter", f"label=new={label}")
    assert docker("images", "--quiet", "--filter", f"label=new={label}").lines == []
    docker("rmi", f"{old}:1", f"{new}:2")


def test_system_prune_takes_what_is_unused_and_says_so(
    docker: DockerClient, image: str, tmp_path: Path, unique: Unique
) -> None:
    label = unique("label")
    docker("run", "--name", unique("done"), "--label", label, image, "sh", "-c", "echo > /written")
    docker("network", "create", "--label", label, (network := unique("network")))
    docker("volume", "create", "--label", label, (volume := unique("volume")))
    begin = time.time()
    said = docker("system", "prune", "--force", "--volumes", "--filter", f"label={label}").stdout
    assert "Deleted Containers:" in said
    assert f"Deleted Networks:\n{network}\n" in said
    assert re.search(r"^Total reclaimed space: [\d.]+k?B$", said, re.MULTILINE)
    assert docker("ps", "--all", "--quiet", "--filter", f"label={label}").lines == []
    assert volume in docker("volume", "ls", "--quiet").lines, "it has a name"
    docker("volume", "prune", "--all", "--force", "--filter", f"label={label}")
    assert volume not in docker("volume", "ls", "--quiet").lines
    assert docker("builder", "prune", "--force").lines[-1].startswith("Total")
    span = ("--since", f"{begin:.9f}", "--until", f"{time.time():.9f}")
    prunes = docker("events", *span, "--filter", "event=prune", "--format", "{{.Type}} {{.Actor.Attributes.reclaimed}}")
    kinds = [line.split()[0] for line in prunes.lines]
    assert kinds == ["container", "network", "volume", "image", "builder", "volume", "builder"]
    assert all(line.split()[1].isdecimal() for line in prunes.lines)


def test_a_container_is_made_or_its_image_is_gone(docker: DockerClient, tmp_path: Path, unique: Unique) -> None:
    """A create and a removal at the same time: whichever comes first, nothing is half done."""
    for _ in range(5):
        name, container = unique("race"), unique("container")
        load(docker, tmp_path / "x", **{name: small(name, "more")})
        creating = docker.start("create", "--pull", "never", "--name", container, f"{name}:1")
        removing = docker.start("rmi", "--force", f"{name}:1")
        _, complaint = creating.communicate(timeout=60)
        removing.communicate(timeout=60)
        if creating.returncode == 0:
            docker("cp", f"{container}:/more", str(tmp_path / "more"))
            docker("rm", container)
        else:
            assert f"No such image: {name}:1" in complaint.decode()
        docker.fails("rmi", f"{name}:1")
