"""The long forms of ``sampan system df``: every object, and who holds it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from sampan.disk import IMAGE, LEASE, Holder, StoredObject, sizes_by_owner
from sampan.docker.durations import ago
from sampan.docker.image_view import seconds
from sampan.docker.sizes import human_size
from sampan.engine.df import DiskUse, ImageUse
from sampan_cli.commands.container.ps import container_row
from sampan_cli.output.table import print_list, table
from sampan_cli.template.functions import to_json

Echo = Callable[[str], object]

_IMAGE_TITLES: Final = (
    "REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS",
)  # fmt: skip
_CONTAINER_FIELDS: Final = {
    "ID": "CONTAINER ID",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "LocalVolumes": "LOCAL VOLUMES",
    "Size": "SIZE",
    "RunningFor": "CREATED",
    "Status": "STATUS",
    "Names": "NAMES",
}
_VOLUME_TITLES: Final = ("VOLUME NAME", "LINKS", "SIZE")
_CACHE_TITLES: Final = ("CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED")
_NONE: Final = "<none>"
_SHORT_ID: Final = 12

_EXPLAINED: Final = {"Kind": "KIND", "ID": "ID", "Size": "SIZE", "Owner": "OWNER", "HeldBy": "HELD BY"}
_EXPLAINED_TABLE: Final = "{{.Kind}}\t{{.ID}}\t{{.Size}}\t{{.HeldBy}}"


def print_details(used: DiskUse, template: str, now_s: float, echo: Echo) -> None:
    """Print each image, container and volume, as Docker does; with the template ``json`` one object."""
    images = [row for one in used.images for row in _image_rows(one, now_s)]
    containers = [
        container_row(one.container, now_s, trunc=True) | {"Size": human_size(one.size_rw_bytes, 3)}
        for one in used.containers
    ]
    volumes = [(volume.name, str(len(volume.used_by)), human_size(volume.size_bytes or 0)) for volume in used.volumes]
    if template == "json":
        shown = [{field: row[field] for field in _CONTAINER_FIELDS} for row in containers]
        document = {
            "Images": [dict(zip(_keys(_IMAGE_TITLES), row, strict=True)) for row in images],
            "Containers": shown,
            "Volumes": [dict(zip(_keys(_VOLUME_TITLES), row, strict=True)) for row in volumes],
            "BuildCache": [],
        }
        echo(to_json(document))
        return
    _section("Images space usage:", _IMAGE_TITLES, images, echo)
    rows = [[str(row[field]) for field in _CONTAINER_FIELDS] for row in containers]
    _section("\nContainers space usage:", tuple(_CONTAINER_FIELDS.values()), rows, echo)
    _section("\nLocal Volumes space usage:", _VOLUME_TITLES, volumes, echo)
    _section("\nBuild cache usage: 0B", _CACHE_TITLES, (), echo)


def _keys(titles: Iterable[str]) -> list[str]:
    return [title.title().replace(" ", "").replace("Id", "ID") for title in titles]


def _section(heading: str, titles: Sequence[str], rows: Iterable[Sequence[str]], echo: Echo) -> None:
    echo(f"{heading}\n")
    for line in table([titles, *rows]):
        echo(line.rstrip())


def _image_rows(one: ImageUse, now_s: float) -> Iterator[tuple[str, ...]]:
    image = one.image
    names = [tuple(name.rpartition(":")[::2]) for name in image.repo_tags]
    names = names or [(name.partition("@")[0], _NONE) for name in image.repo_digests[:1]] or [(_NONE, _NONE)]
    sizes = one.size_bytes, one.shared_bytes, one.size_bytes - one.shared_bytes
    for repository, tag in names:
        yield (
            repository,
            tag,
            image.id.partition(":")[2][:_SHORT_ID],
            ago(seconds(image.created_ns), now_s),
            *(human_size(size) for size in sizes),
            str(one.containers),
        )


def print_explanation(objects: Sequence[StoredObject], template: str, echo: Echo) -> None:
    """Print each object with its holders, largest first, and in a table what that comes to for each owner."""
    ordered = sorted(objects, key=lambda one: (-one.size_bytes, one.kind, one.id))
    if template == "json":
        for one in ordered:
            echo(to_json(_document(one)))
        return
    rows = [
        {
            "Kind": one.kind,
            "ID": _shown(one.id) if template in ("", "table") else one.id,
            "Size": human_size(one.size_bytes),
            "Owner": one.owner,
            "HeldBy": "; ".join(_holders(one.holders)) or "nobody: an orphan, which `sampan system gc` removes",
        }
        for one in ordered
    ]
    print_list(rows, template, _EXPLAINED, _EXPLAINED_TABLE, echo)
    if template in ("", "table"):
        echo("")
        for line in table([("OWNER", "KIND", "SIZE"), *_totals(objects)]):
            echo(line.rstrip())


def _totals(objects: Sequence[StoredObject]) -> Iterator[tuple[str, str, str]]:
    sizes = sizes_by_owner(objects)
    for (kind, owner), size in sorted(sizes.items(), key=lambda item: -item[1]):
        yield owner, kind, human_size(size)
    yield "total", "", human_size(sum(sizes.values()))


def _document(one: StoredObject) -> dict[str, object]:
    holders = [
        {"Kind": holder.kind}
        | ({"ID": holder.id} if holder.id else {})
        | ({"Names": list(holder.names)} if holder.names else {})
        | ({"Expires": _moment(holder.expires_ns)} if holder.expires_ns else {})
        for holder in one.holders
    ]
    return {"Kind": one.kind, "ID": one.id, "Size": one.size_bytes, "Owner": one.owner, "HeldBy": holders}


def _holders(holders: Sequence[Holder]) -> Iterator[str]:
    """Images in one phrase, leases that are alike in one, everybody else in one each."""
    images = [", ".join(one.names) or _shown(one.id) for one in holders if one.kind == IMAGE]
    if len(images) == 1:
        yield f"image {images[0]}"
    elif images:
        yield f"shared by images {', '.join(images)}"
    alike: dict[object, list[Holder]] = {}
    for one in holders:
        if one.kind != IMAGE:
            alike.setdefault(one.names if one.kind == LEASE else one, []).append(one)
    for first, *others in alike.values():
        kind = f"{len(others) + 1} {first.kind}s" if others else first.kind
        ends_ns = [one.expires_ns for one in (first, *others)]
        until = f"until {_moment(max(ends_ns))}" if all(ends_ns) else ""
        yield " ".join(filter(None, (kind, *(first.names or (_shown(first.id),)), until)))


def _moment(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(identity: str) -> str:
    """Shorten what is a digest or an ID."""
    digits = identity.removeprefix("sha256:")
    return digits[:_SHORT_ID] if len(digits) == 64 else identity
