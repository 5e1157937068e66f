"""The registry's rows against the content store: each difference is named, and repaired by itself."""

import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from registryd.check import rows
from registryd.check.check import RegistryCheck
from registryd.check.rebuild import Rebuilder
from registryd.check.repair import Repairer
from registryd.check.upkeep import Upkeep
from registryd.http.htpasswd import Htpasswd
from registryd.repositories.roots import ROOT_PREFIX, Roots
from registryd.repositories.uploads import Visits
from sampan.check import Finding, Means
from sampan.oci.descriptor import OCI_INDEX, OCI_MANIFEST
from sampan.oci.digest import Digest
from sampan.store.database import Store
from tests.unit.registryd.parts import Parts, descriptor, document, pieces

LAYER = Digest.of(b"layer")
OF_APP = "WHERE repository = 'app'"


def checker(parts: Parts, users: Htpasswd | None = None) -> RegistryCheck:
    repairer = Repairer(parts.store, parts.contents, parts.blobs, parts.manifests, parts.upkeep)
    return RegistryCheck(parts.store, parts.contents, parts.blobs.roots, repairer, users, parts.upkeep.is_abandoned)


async def findings(parts: Parts, users: Htpasswd | None = None) -> list[Finding]:
    async with aclosing(checker(parts, users).check(quick=False)) as steps:
        return [step async for step in steps if isinstance(step, Finding)]


async def write(parts: Parts, statement: str, *parameters: object) -> None:
    """Change rows as nothing of ours does."""

    def change(db: sqlite3.Connection) -> None:
        db.commit()  # constraints are looked at, or not, by whole transactions
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute(statement, parameters)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("BEGIN")

    await parts.store.write(change)


async def state(parts: Parts) -> tuple[object, ...]:
    """Everything that is recorded and kept, but for the labels' names."""

    def look(db: sqlite3.Connection) -> list[list[tuple[object, ...]]]:
        tables = {
            "blobs": "repository, digest, size_bytes",
            "manifests": "repository, digest, media_type, size_bytes, subject, artifact_type, annotations",
            "manifest_blobs": "*",
            "manifest_children": "*",
            "tags": "*",
        }
        return [
            sorted(tuple(map(str, row)) for row in db.execute(f"SELECT {columns} FROM {table}"))
            for table, columns in tables.items()
        ]

    held = {each.digest: len(each.roots) async for each in parts.contents.held()}
    return await parts.store.read(look), held


async def lose_content(parts: Parts, digest: Digest) -> None:
    del parts.contents.blobs[digest], parts.contents.labels[digest]


async def lose_label(parts: Parts, repository: str, digest: Digest) -> None:
    labels = parts.contents.labels[digest]
    for label in [label for label, owner in labels.items() if label.startswith(ROOT_PREFIX) and owner == repository]:
        del labels[label]


Damage = Callable[[Parts], Awaitable[None]]

MENDABLE: dict[str, tuple[str, str, Damage]] = {
    "a label that is gone": (
        "registry-content-unkept", f"blobs/app@{LAYER}", lambda parts: lose_label(parts, "app", LAYER)),
    "a size that is wrong": (
        "registry-row-broken", f"blobs/app@{LAYER}",
        lambda parts: write(parts, f"UPDATE blobs SET size_bytes = 7 {OF_APP} AND digest = ?", LAYER)),
    "a reference that is lost": (
        "registry-row-broken", "manifests/app@",
        lambda parts: write(parts, f"DELETE FROM manifest_blobs {OF_APP} AND digest = ?", LAYER)),
    "another artifact type": (
        "registry-row-broken", "manifests/app@",
        lambda parts: write(parts, f"UPDATE manifests SET artifact_type = 'x' {OF_APP}")),
    "a blob's row that is lost": (
        "registry-row-broken", f"blobs/app@{LAYER}",
        lambda parts: write(parts, f"DELETE FROM blobs {OF_APP} AND digest = ?", LAYER)),
    "a manifest's row that is lost": (
        "registry-row-broken", "tags/app:1", lambda parts: write(parts, f"DELETE FROM manifests {OF_APP}")),
}  # fmt: skip


async def test_what_is_whole_has_no_findings(parts: Parts) -> None:
    await parts.push_image("app", "1")
    child = await parts.push_image("app", "2", b"other", subject=descriptor(b"not here", OCI_MANIFEST))
    size = await parts.contents.size(child)
    entry = {"mediaType": OCI_MANIFEST, "digest": child, "size": size}
    await parts.manifests.put("app", "index", OCI_INDEX, document(manifests=[entry]))
    await parts.uploads.begin("app")
    parts.contents.grown_ns = parts.clock.nanoseconds()
    assert await findings(parts) == []


@pytest.mark.parametrize("what", MENDABLE)
async def test_what_can_be_repaired_is_as_it_was_afterwards(parts: Parts, what: str) -> None:
    await parts.push_image("app", "1")
    await parts.push_image("other", "1")  # whose rows and labels nobody touches
    before = await state(parts)
    kind, subject, damage = MENDABLE[what]
    await damage(parts)
    first, *others = [each for each in await findings(parts) if each.kind != "registry-label-orphan"]
    assert first.kind == kind
    assert first.subject.startswith(subject)
    assert first.mendable
    for finding in (first, *others):
        assert (await checker(parts).repair(finding, Means())).repaired
    for finding in await findings(parts):
        assert finding.kind == "registry-label-orphan", finding
        assert (await checker(parts).repair(finding, Means())).repaired
    assert await findings(parts) == []
    assert await state(parts) == before


async def test_content_that_is_gone_is_named_with_the_tags_that_suffer(parts: Parts) -> None:
    manifest = await parts.push_image("app", "1")
    await lose_content(parts, LAYER)
    (finding,) = await findings(parts)
    assert (finding.kind, finding.subject) == ("registry-content-missing", f"blobs/app@{LAYER}")
    assert (finding.affected, finding.mendable) == (("app:1",), False)
    assert not (await checker(parts).repair(finding, Means())).repaired
    await lose_content(parts, manifest)
    assert [each.subject for each in await findings(parts)] == [f"blobs/app@{LAYER}", f"manifests/app@{manifest}"]
    # A push brings it again, and that is all that is needed.
    assert await parts.push_image("app", "1") == manifest
    assert await findings(parts) == []


async def test_blob_that_no_manifest_needs_is_forgotten_with_its_content(parts: Parts) -> None:
    await parts.push("app", b"alone")
    await lose_content(parts, Digest.of(b"alone"))
    (finding,) = await findings(parts)
    assert (await checker(parts).repair(finding, Means())).repaired
    assert await parts.store.read(rows.everything) == []


async def test_tag_of_a_manifest_that_is_nowhere_goes(parts: Parts) -> None:
    manifest = await parts.push_image("app", "1")
    await write(parts, "DELETE FROM manifests")
    await lose_content(parts, manifest)
    finding = (await findings(parts))[0]
    assert (finding.subject, finding.remedy) == ("tags/app:1", "remove the tag")
    assert (await checker(parts).repair(finding, Means())).repaired
    assert [each.subject for each in await findings(parts)] == []


async def test_label_without_a_row_and_upload_that_nobody_goes_on_with_are_taken_away(parts: Parts) -> None:
    parts.contents.add(b"x", f"{ROOT_PREFIX}0123456789abcdef")
    upload = await parts.uploads.begin("app")
    await parts.uploads.append("app", upload, pieces(b"half"))
    with parts.blobs.roots.issued() as pending:
        parts.contents.add(b"y", pending)
        found = await findings(parts)
        assert [each.kind for each in found] == ["registry-upload-orphan", "registry-label-orphan"]
        for finding in found:
            assert (await checker(parts).repair(finding, Means())).repaired
        assert (set(parts.contents.blobs), parts.contents.ingests) == ({Digest.of(b"y")}, {})


async def test_file_of_users_that_cannot_be_read_is_named(parts: Parts, tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text("ann:$2y$05$abcdefghijklmnopqrstuv\n")
    users = Htpasswd(path)
    assert await findings(parts, users) == []
    path.write_text("ann:plain\n")
    (finding,) = await findings(parts, users)
    assert (finding.kind, finding.path, finding.mendable) == ("registry-users-broken", str(path), False)
    assert "line 1: user 'ann' has no bcrypt hash" in finding.problem
    path.unlink()
    (finding,) = await findings(parts, users)
    assert "No such file or directory" in finding.problem


async def test_one_damage_hides_another_until_it_is_repaired(parts: Parts) -> None:
    await parts.push_image("app", "1")
    await write(parts, "UPDATE blobs SET size_bytes = 7 WHERE digest = ?", LAYER)
    await write(parts, "UPDATE manifests SET artifact_type = 'x'")
    blob, manifest = await findings(parts)
    refused = await checker(parts).repair(manifest, Means())
    assert (refused.repaired, "has 5 bytes, it has 7" in refused.text) == (False, True)
    for finding in (blob, manifest):
        assert (await checker(parts).repair(finding, Means())).repaired
    assert await findings(parts) == []


async def test_rows_that_are_lost_come_back_from_labels_and_documents_without_tags(
    parts: Parts, tmp_path: Path
) -> None:
    child = await parts.push_image("app", "1", subject=descriptor(b"not here", OCI_MANIFEST))
    entry = {"mediaType": OCI_MANIFEST, "digest": child, "size": await parts.contents.size(child)}
    await parts.manifests.put("app", "all", OCI_INDEX, document(manifests=[entry]))
    await parts.push_image("other", "1")
    await parts.push("other", b'{"schemaVersion": 2}')  # looks like a manifest, and is none
    tables, held = await state(parts)
    async with Store(tmp_path / "new.db", "registryd.schema", durable=False) as store:
        await Rebuilder(store, parts.contents, 10**18).run()
        again, held_again = await state(replace(parts, store=store))
        await Upkeep(store, parts.contents, 1e9, Roots(), Visits(), parts.clock.nanoseconds).recover()
        assert (await state(replace(parts, store=store)))[1] == held
    assert isinstance(tables, list)
    assert again == [*tables[:-1], []]
    assert held_again == held
