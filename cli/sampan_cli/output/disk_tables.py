"""The long forms of ``sampan system df``: every object, and who holds it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from sampan.build.request import UsageRecord
from sampan.disk import CACHE, IMAGE, LEASE, Holder, StoredObject, sizes_by_owner
from sampan.docker.durations import ago
from sampan.docker.sizes import human_size
from sampan.docker.times import local_time
from sampan.docker.views.image_view import seconds
from sampan.engine.df import CacheUse, ContainerUse, DiskUse, ImageUse
from sampan.resource.volume import Volume
from sampan_cli.commands.container.ps import container_row
from sampan_cli.output.table import print_list, table
from sampan_cli.template.functions import to_json
from sampan_cli.template.template import Template

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
_CACHE_FIELDS: Final = ("CacheType", "Size", "CreatedSince", "LastUsedSince", "UsageCount", "Shared")
_NONE: Final = "<none>"
_SHORT_ID: Final = 12

_EXPLAINED: Final = {"Kind": "KIND", "ID": "ID", "Size": "SIZE", "Owner": "OWNER", "HeldBy": "HELD BY"}
_EXPLAINED_TABLE: Final = "{{.Kind}}\t{{.ID}}\t{{.Size}}\t{{.HeldBy}}"


def print_details(used: DiskUse, built: CacheUse, template: str, now_s: float, echo: Echo) -> None:
    """Print each image, container, volume and record of the build cache, as Docker does.

    With a template it is that of the object of all of them.
    """
    cache = [_cache_document(one, now_s) for one in sorted(built.records, key=lambda one: (one.last_used_ns, one.id))]
    images = [_image_row(one, now_s) for one in used.images]
    containers = [
        container_row(one.container, now_s, trunc=True) | {"Size": human_size(one.size_rw_bytes, 3)}
        for one in used.containers
    ]
    volumes = [(volume.name, str(len(volume.used_by)), human_size(volume.size_bytes or 0)) for volume in used.volumes]
    if template not in ("", "table"):
        document = {
            "Images": [_image_document(one, now_s) for one in used.images],
            "Containers": [_container_document(one, now_s) for one in used.containers],
            "Volumes": [_volume_document(volume) for volume in used.volumes],
            "BuildCache": cache,
        }
        echo(to_json(document) if template == "json" else Template(template).render(document))
        return
    _section("Images space usage:", _IMAGE_TITLES, images, echo)
    rows = [[str(row[field]) for field in _CONTAINER_FIELDS] for row in containers]
    _section("\nContainers space usage:", tuple(_CONTAINER_FIELDS.values()), rows, echo)
    _section("\nLocal Volumes space usage:", _VOLUME_TITLES, volumes, echo)
    shown = [[_short(one["ID"], one["InUse"]), *(one[field] for field in _CACHE_FIELDS)] for one in cache]
    _section(f"\nBuild cache usage: {human_size(built.total().size_bytes)}", _CACHE_TITLES, shown, echo)


def _cache_document(record: UsageRecord, now_s: float) -> dict[str, str]:
    used = bool(record.last_used_ns)
    return {
        "ID": record.id,
        "Parent": ", ".join(record.parents),
        "CacheType": record.type,
        "Description": record.description,
        "Size": human_size(record.size_bytes, 3),
        "CreatedAt": _go_time(record.created_ns),
        "CreatedSince": ago(seconds(record.created_ns), now_s),
        "LastUsedAt": _go_time(record.last_used_ns) if used else "",
        "LastUsedSince": ago(seconds(record.last_used_ns), now_s) if used else "",
        "UsageCount": str(record.usage_count),
        "InUse": str(record.in_use).lower(),
        "Shared": str(record.shared).lower(),
    }


def _go_time(time_ns: int) -> str:
    """Return a time as Go prints one: no digit more than it has."""
    whole, fraction = divmod(time_ns, 10**9)
    digits = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%d %H:%M:%S}{digits} +0000 UTC"


def _short(id: str, in_use: str) -> str:
    return f"{id[:_SHORT_ID]}{'*' if in_use == 'true' else ''}"


def _image_document(one: ImageUse, now_s: float) -> dict[str, str]:
    digests = dict(name.rpartition("@")[::2] for name in one.image.repo_digests)
    repository, tag, *_ = _image_row(one, now_s)
    return {
        "Repository": repository,
        "Tag": tag,
        "Digest": digests.get(repository, _NONE),
        "ID": one.image.id,
        "CreatedAt": local_time(seconds(one.image.created_ns)),
        "CreatedSince": ago(seconds(one.image.created_ns), now_s),
        "Containers": str(one.containers),
        "Size": human_size(one.size_bytes, 3),
        "VirtualSize": human_size(one.size_bytes),
        "SharedSize": human_size(one.shared_bytes),
        "UniqueSize": human_size(one.size_bytes - one.shared_bytes),
    }


def _container_document(one: ContainerUse, now_s: float) -> dict[str, object]:
    row = container_row(one.container, now_s, trunc=False) | {"Size": human_size(one.size_rw_bytes, 3)}
    return {key: value for key, value in row.items() if not callable(value)}


def _volume_document(volume: Volume) -> dict[str, str]:
    return {
        "Name": volume.name,
        "Driver": volume.driver,
        "Mountpoint": volume.mountpoint,
        "Scope": "local",
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(volume.labels.items())),
        "Links": str(len(volume.used_by)),
        "Size": human_size(volume.size_bytes or 0),
        **dict.fromkeys(("Status", "Availability", "Group"), "N/A"),  # Swarm's
    }


def _section(heading: str, titles: Sequence[str], rows: Iterable[Sequence[str]], echo: Echo) -> None:
    echo(f"{heading}\n")
    for line in table([titles, *rows]):
        echo(line.rstrip())


def _image_row(one: ImageUse, now_s: float) -> tuple[str, ...]:
    """An image is one row, with the first of its names: what it takes is taken once."""
    image = one.image
    repository, tag = image.repo_tags[0].rpartition(":")[::2] if image.repo_tags else (_NONE, _NONE)
    return (
        repository,
        tag,
        image.id.partition(":")[2][:_SHORT_ID],
        ago(seconds(image.created_ns), now_s),
        human_size(one.size_bytes, 3),
        *(human_size(size) for size in (one.shared_bytes, one.size_bytes - one.shared_bytes)),
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
            alike.setdefault((one.kind, one.names) if one.kind in (LEASE, CACHE) else one, []).append(one)
    for first, *others in alike.values():
        kind = f"{len(others) + 1} {first.kind}s" if others and first.kind == LEASE else first.kind
        ends_ns = [one.expires_ns for one in (first, *others)]
        until = f"until {_moment(max(ends_ns))}" if all(ends_ns) else ""
        yield " ".join(filter(None, (kind, *(first.names or (_shown(first.id),)), until)))


def _moment(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _shown(identity: str) -> str:
    """Shorten what is a digest or an ID."""
    digits = identity.removeprefix("sha256:")
    return digits[:_SHORT_ID] if len(digits) == 64 else identity
