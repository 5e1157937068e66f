"""``sampan manifest``: lists of manifests, one name for an image for several platforms."""

import json
import os
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, SampanError
from sampan_cli.app import completing
from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import CommandError, Session, Told
from sampan_cli.credentials.store import CredentialStore, config_path

if TYPE_CHECKING:
    from sampan.oci.reference import Reference
    from sampan_cli.backend import ManifestBackend
    from sampan_cli.manifests.lists import Registry
    from sampan_cli.manifests.store import ListedManifest, ManifestStore

_INSECURE = click.option(
    "--insecure", is_flag=True, help="Take the registry's https without verification, or plain http."
)


def _store() -> "ManifestStore":
    from sampan_cli.manifests.store import ManifestStore

    return ManifestStore(config_path(os.environ).parent)


def _registry(engine: "ManifestBackend", *, insecure: bool) -> "Registry":
    from sampan_cli.manifests.lists import Registry

    return Registry(engine.images, CredentialStore(config_path(os.environ)).for_image, insecure)


def _name(text: str, what: str = "") -> "Reference":
    from sampan.oci.reference import parse_reference

    try:
        return parse_reference(text).with_default_tag()
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"{what}{error}") from error


@sampan_command(
    "create",
    examples="sampan manifest create localhost:5000/app:1 localhost:5000/app:1-amd64 localhost:5000/app:1-arm64",
)
@click.argument("manifest_list", shell_complete=completing.images)
@click.argument("manifests", nargs=-1, required=True, shell_complete=completing.images)
@click.option("--amend", "-a", is_flag=True, help="Amend an existing manifest list.")
@_INSECURE
@click.pass_obj
def create(session: Session, /, manifest_list: str, manifests: tuple[str, ...], amend: bool, insecure: bool) -> None:
    """Create a local manifest list, for annotating and pushing to a registry."""
    session.run(lambda engine: _create(engine, manifest_list, manifests, amend=amend, insecure=insecure))


async def _create(
    engine: "ManifestBackend", manifest_list: str, manifests: tuple[str, ...], *, amend: bool, insecure: bool
) -> None:
    from sampan_cli.manifests.store import ListedManifest

    target = _name(manifest_list, f"error parsing name for manifest list {manifest_list}: ")
    store, registry = _store(), _registry(engine, insecure=insecure)
    with suppress(NotFoundError):
        store.all_of(target)
        if not amend:
            raise ConflictError("refusing to amend an existing manifest list with no --amend flag")
    for reference in map(_name, manifests):
        found: ListedManifest | None = None
        with suppress(NotFoundError):
            found = store.get(target, reference)
        if found is None or not found.content:
            found = ListedManifest.of(reference, await registry.find(reference))
        store.put(target, found)
    click.echo(f"Created manifest list {target}")


@sampan_command(
    "annotate",
    examples="sampan manifest annotate --arch arm --variant v7 localhost:5000/app:1 localhost:5000/app:1-arm",
)
@click.argument("manifest_list", shell_complete=completing.images)
@click.argument("manifest", shell_complete=completing.images)
@click.option("--arch", default="", help="Set architecture.")
@click.option("--os", "system", default="", help="Set operating system.")
@click.option("--os-features", multiple=True, help="Set operating system feature; commas separate several.")
@click.option("--os-version", default="", help="Set operating system version.")
@click.option("--variant", default="", help="Set architecture variant.")
def annotate(
    manifest_list: str,
    manifest: str,
    arch: str,
    system: str,
    os_features: tuple[str, ...],
    os_version: str,
    variant: str,
) -> None:
    """Add additional information to a manifest of a local list."""
    from sampan_cli.manifests.lists import KNOWN
    from sampan_cli.manifests.store import ListedPlatform

    with Told():
        target = _name(manifest_list, f"annotate: error parsing name for manifest list {manifest_list}: ")
        reference = _name(manifest, f"annotate: error parsing name for manifest {manifest}: ")
        try:
            found = _store().get(target, reference)
        except NotFoundError:
            raise NotFoundError(f"manifest for image {manifest} does not exist in {manifest_list}") from None
        before = found.platform or ListedPlatform()
        features = [feature for text in os_features for feature in text.split(",") if feature]
        platform = ListedPlatform(
            arch or before.architecture,
            system or before.os,
            os_version or before.os_version,
            tuple(dict.fromkeys((*before.os_features, *features))),
            variant or before.variant,
        )
        if platform.architecture not in KNOWN.get(platform.os, ()):
            raise InvalidArgumentError(f"manifest entry for image has unsupported os/arch combination: {system}/{arch}")
        _store().put(target, replace(found, reference=reference, platform=platform))


@sampan_command(
    "inspect",
    examples="sampan manifest inspect localhost:5000/app:1\n"
    "sampan manifest inspect --verbose localhost:5000/app:1 localhost:5000/app:1-arm64",
)
@click.argument("names", metavar="[MANIFEST_LIST] MANIFEST", nargs=-1, required=True, shell_complete=completing.images)
@_INSECURE
@click.option("--verbose", "-v", is_flag=True, help="Output additional info including layers and platform.")
@click.pass_obj
def inspect(session: Session, /, names: tuple[str, ...], insecure: bool, verbose: bool) -> None:
    """Display an image manifest, or a manifest list: a local one, or else the registry's."""
    if len(names) > 2:
        raise click.UsageError(f"Got unexpected extra argument ({names[2]})")
    with Told():
        reference = _name(names[-1])
        if len(names) == 2:
            _print_one(_store().get(_name(names[0]), reference), verbose=verbose)
            return
        try:
            members = _store().all_of(reference)
        except NotFoundError:
            pass
        else:
            _print_list(reference, members, verbose=verbose)
            return
    session.run(lambda engine: _inspect(engine, reference, insecure=insecure, verbose=verbose))


async def _inspect(engine: "ManifestBackend", reference: "Reference", *, insecure: bool, verbose: bool) -> None:
    from sampan_cli.manifests import lists
    from sampan_cli.manifests.store import ListedManifest

    registry = _registry(engine, insecure=insecure)
    found = await registry.find(reference)
    if not lists.is_list(found):
        _print_one(ListedManifest.of(reference, found), verbose=verbose)
    elif verbose:
        _print_list(reference, await registry.members(reference, found), verbose=True)
    else:
        click.echo(lists.rendered(lists.entries(found, reference)).decode())


def _print_one(manifest: "ListedManifest", *, verbose: bool) -> None:
    from sampan_cli.manifests.store import go_json

    if verbose:
        click.echo(go_json(manifest.document(), "\t"))
    elif manifest.content:
        click.echo(json.dumps(json.loads(manifest.content), indent="\t", ensure_ascii=False))
    else:
        raise InvalidArgumentError(f"{manifest.reference} has no payload: create the list again with --amend")


def _print_list(reference: "Reference", members: "list[ListedManifest]", *, verbose: bool) -> None:
    from sampan_cli.manifests.lists import document
    from sampan_cli.manifests.store import go_json

    if verbose:
        click.echo(go_json([member.document() for member in members], "\t"))
        return
    try:
        shown = document(reference, members, whole=False)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"failed to assemble ManifestDescriptor: {error}") from error
    click.echo(shown.decode())


@sampan_command("push", examples="sampan manifest push --purge localhost:5000/app:1")
@click.argument("manifest_list", shell_complete=completing.images)
@_INSECURE
@click.option("--purge", "-p", is_flag=True, help="Remove the local manifest list after push.")
@click.pass_obj
def push(session: Session, /, manifest_list: str, insecure: bool, purge: bool) -> None:
    """Push a manifest list to a repository."""

    async def work(engine: "ManifestBackend") -> None:
        target, store = _name(manifest_list), _store()
        members = store.all_of(target)
        if not members:
            raise NotFoundError(f"{target} not found")
        click.echo(await _registry(engine, insecure=insecure).push(target, members, click.echo))
        if purge:
            store.remove(target)

    session.run(work)


@sampan_command("rm", examples="sampan manifest rm localhost:5000/app:1")
@click.argument("manifest_lists", nargs=-1, required=True, shell_complete=completing.images)
def rm(manifest_lists: tuple[str, ...]) -> None:
    """Delete one or more manifest lists from local storage."""
    failures = []
    for name in manifest_lists:
        try:
            _store().remove(_name(name))
        except (SampanError, OSError) as error:
            failures.append(str(error))
    if failures:
        raise CommandError("\n".join(failures))
