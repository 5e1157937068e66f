"""Disk use and pruning at the command line."""

import json

import pytest

from sampan.build.request import UsageRecord
from sampan.disk import CACHE, HOLD, IMAGE, LEASE, SERVICE, SNAPSHOT, Holder, StoredObject
from sampan.errors import ServiceGoneError
from tests.fakes.engine import image
from tests.unit.sampan_cli.conftest import Sampan

DIGEST = "sha256:" + "1" * 64
DAY_NS = 1_700_000_000 * 10**9


def test_explain_names_everyone_who_holds_something(sampan: Sampan) -> None:
    web, db = Holder(IMAGE, DIGEST, ("web:1",)), Holder(IMAGE, DIGEST, ("db:1", "db:2"))
    container = sampan.container("sleep", name="c1")
    sampan.fake.content_disk.objects = [
        StoredObject("blob", DIGEST, 4096, (web, db)),
        StoredObject("blob", "sha256:" + "2" * 64, 2048, (Holder(LEASE, "1234", ("docker.io/x",), DAY_NS),)),
        StoredObject("records", "metadata.db", 100, (Holder(SERVICE, "imaged"),)),
        StoredObject(
            "blob", "sha256:" + "4" * 64, 60, tuple(Holder(LEASE, f"{n}", ("load",), n + 1) for n in range(3))
        ),
        StoredObject("blob", "sha256:" + "5" * 64, 40, tuple(Holder(LEASE, f"{n}", ("x",), n) for n in range(2))),
    ]
    sampan.fake.layer_disk.objects = [
        StoredObject("layer", DIGEST, 8000, (Holder(SNAPSHOT, container), Holder(SNAPSHOT, "k8s.io/7"))),
        StoredObject("layer", "sha256:" + "3" * 64, 700, (Holder(HOLD, expires_ns=DAY_NS),)),
        StoredObject("stray", "l/99", 50),
    ]
    said = sampan.ok("system", "df", "--explain", "--format", "{{.Kind}}|{{.Size}}|{{.Owner}}|{{.HeldBy}}").splitlines()
    assert said == [
        "layer|8kB|container|container c1; snapshot k8s.io/7",
        "blob|4.096kB|image|shared by images web:1, db:1, db:2",
        "blob|2.048kB|lease|lease docker.io/x until 2023-11-14T22:13:20Z",
        "layer|700B|hold|hold until 2023-11-14T22:13:20Z",
        "records|100B|service|service imaged",
        "blob|60B|lease|3 leases load until 1970-01-01T00:00:00Z",
        "stray|50B|orphan|nobody: an orphan, which `sampan system gc` removes",
        "blob|40B|lease|2 leases x",
    ]
    assert sampan.ok("system", "df", "--explain").splitlines()[-1].split() == ["total", "15.09kB"]


def test_explain_names_the_build_cache_once_however_many_records_hold_something(sampan: Sampan) -> None:
    records = tuple(Holder(CACHE, f"record-{number}", ("buildd",)) for number in range(3))
    sampan.fake.layer_disk.objects = [StoredObject("layer", DIGEST, 8000, records)]
    said = sampan.ok("system", "df", "--explain", "--format", "{{.Owner}}|{{.HeldBy}}")
    assert said == "build cache|build cache buildd\n"


def test_explanation_as_json_has_bytes_and_whole_ids(sampan: Sampan) -> None:
    sampan.fake.content_disk.objects = [StoredObject("blob", DIGEST, 4096, (Holder(IMAGE, DIGEST, ("web:1",)),))]
    assert json.loads(sampan.ok("system", "df", "--explain", "--format", "json")) == {
        "Kind": "blob",
        "ID": DIGEST,
        "Size": 4096,
        "Owner": IMAGE,
        "HeldBy": [{"Kind": "image", "ID": DIGEST, "Names": ["web:1"]}],
    }


def test_explain_calls_a_snapshot_without_a_container_a_snapshot(sampan: Sampan) -> None:
    sampan.fake.layer_disk.objects = [StoredObject("snapshot", "x", 1, (Holder(SNAPSHOT, "x"),))]
    assert sampan.ok("system", "df", "--explain", "--format", "{{.Owner}}") == f"{SNAPSHOT}\n"


def test_details_show_what_images_share(sampan: Sampan) -> None:
    sampan.fake.images.add(image("debian:12"))
    sampan.fake.images.add(image("web:1", created_s=1_600_000_000))
    lines = [line.split() for line in sampan.ok("system", "df", "-v").splitlines()]
    images = [line for line in lines if line[:1] in (["debian"], ["web"])]
    assert [(line[0], line[-4:]) for line in images] == [
        ("debian", ["3.5kB", "3.5kB", "0B", "0"]),
        ("web", ["3.5kB", "3.5kB", "0B", "0"]),
    ]
    assert ["Containers", "space", "usage:"] in lines
    assert sampan("system", "df", "-v", "--explain").exit_code == 125


def test_gc_says_what_it_has_removed(sampan: Sampan) -> None:
    sampan.fake.content_disk.objects = [
        StoredObject("blob", DIGEST, 4096),
        StoredObject("blob", "b", 1, (Holder(LEASE),)),
    ]
    sampan.fake.layer_disk.objects = [StoredObject("layer", DIGEST, 904)]
    assert sampan.ok("system", "gc").splitlines() == [
        "blob: 1 removed, 4.096kB",
        "layer: 1 removed, 904B",
        "Total reclaimed space: 5kB",
    ]
    assert sampan.ok("system", "gc", "--leftovers").splitlines() == ["blob: 1 removed, 1B", "Total reclaimed space: 1B"]
    assert sampan.fake.layer_disk.passes == [False, True]


def test_system_prune_ends_in_a_pass_that_takes_leftovers_and_says_the_sum(sampan: Sampan) -> None:
    sampan.fake.images.add(image(""))
    sampan.fake.content_disk.objects = [StoredObject("partial", DIGEST, 4096, (Holder(LEASE),))]
    said = sampan.ok("system", "prune", "-f").splitlines()
    assert "Deleted Images:" in said
    assert said[-1] == "Total reclaimed space: 4.096kB"
    assert sampan.fake.content_disk.passes == [False, True]


def test_volumes_have_no_age_to_choose_by(sampan: Sampan) -> None:
    refused = sampan("system", "prune", "-f", "--volumes", "--filter", "label=a", "--filter", "until=24h")
    assert 'the "until" filter is not supported with "--volumes"' in refused.stderr
    assert (refused.exit_code, sampan.fake.content_disk.passes) == (1, [])


@pytest.mark.parametrize("command", ["system", "builder"])
def test_what_broken_pulls_left_goes_unless_something_else_is_meant(sampan: Sampan, command: str) -> None:
    partial = StoredObject("partial", DIGEST, 4096, (Holder(LEASE),))
    sampan.fake.content_disk.objects = [partial]
    assert sampan.ok(command, "prune", "-f", "--filter", "until=24h").splitlines()[-1].endswith(" 0B")
    assert sampan.fake.content_disk.objects == [partial]
    assert sampan.ok(command, "prune", "-f").splitlines()[-1] == "Total reclaimed space: 4.096kB"
    assert sampan.fake.content_disk.objects == []


# Wherever a command runs, a zone is not both fourteen hours ahead of UTC and as far behind it.
@pytest.mark.parametrize(("offset", "is_older"), [("-14:00", True), ("+14:00", False)])
def test_dates_are_read_in_the_zone_of_the_engine(sampan: Sampan, offset: str, is_older: bool) -> None:
    noon = sampan.fake.images.add(image("", created_s=1_430_481_600))  # 2015-05-01T12:00:00Z
    sampan.fake.runtime.host.system_time = f"2026-05-01T12:00:00{offset}"
    for command in (("images", "-q", "--no-trunc"), ("image", "prune", "-f")):
        assert (noon.id in sampan.ok(*command, "--filter", "until=2015-05-02")) is is_older
    sampan.ok("system", "prune", "-f", "--filter", "until=2026-05-01")
    assert sampan.fake.builder.pruned[-1].keep_duration_ns == 12 * 3600 * 10**9


def test_image_prune_takes_filters(sampan: Sampan) -> None:
    old = sampan.fake.images.add(image("", created_s=1_000_000_000, labels={"keep": "no"}))
    new = sampan.fake.images.add(image("", created_s=1_700_000_000, labels={"keep": "yes"}))
    assert old.id in sampan.ok("image", "prune", "-f", "--filter", "until=2015-01-01")
    assert new.id not in sampan.ok("image", "prune", "-f", "--filter", "label!=keep=yes")
    assert new.id in sampan.ok("image", "prune", "-f", "--filter", "label=keep=yes")
    assert 'time or duration: "yesterday"' in sampan("image", "prune", "-f", "--filter", "until=yesterday").stderr


def test_without_a_builder_the_rest_is_shown(sampan: Sampan) -> None:
    sampan.fake.images.add(image("a:1"))
    sampan.fake.builder.records = ServiceGoneError("gone")
    for arguments in ((), ("-v",)):
        shown = sampan("system", "df", *arguments)
        assert shown.exit_code == 0
        assert "3.5kB" in shown.stdout
        assert shown.stderr == (
            "WARNING: the build cache is not counted: service buildd does not answer, see `sampan status`\n"
        )


def test_what_is_in_use_is_told_apart(sampan: Sampan) -> None:
    sampan.fake.images.add(image("a:1"))
    sampan.container("sleep", name="busy")
    sampan.container("true", name="idle")
    sampan.ok("start", "busy")
    sampan.ok("volume", "create", "v")
    template = "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}"
    assert sampan.ok("system", "df", "--format", template).splitlines()[:3] == [
        "Images|1|0|3.5kB|3.5kB (100%)",
        "Containers|2|1|0B|0B",
        "Local Volumes|1|0|5B|5B (100%)",
    ]


def test_build_cache_that_images_share_counts_as_theirs(sampan: Sampan) -> None:
    sampan.fake.builder.records = [
        UsageRecord("a", 1000),
        UsageRecord("b", 3000, in_use=True),
        UsageRecord("c", 50_000, shared=True),
    ]
    template = "{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}"
    said = sampan.ok("system", "df", "--format", template).splitlines()
    assert "Build Cache|3|1|4kB|1kB" in said
    details = [line.split() for line in sampan.ok("system", "df", "-v").splitlines()]
    assert ["b*", "regular", "3kB", "N/A", "0", "false"] in details
    assert sampan.ok("system", "df", "-v", "--format", "{{range .BuildCache}}{{.ID}} {{.Shared}},{{end}}") == (
        "a false,b false,c true,\n"
    )
