"""Images with the platforms that each has, as a tree, for ``sampan images --tree``."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.docker.sizes import human_size
from sampan.resource.image import ImageDetails, ImageManifest, ManifestKind

_HEADERS: Final = ("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")
_NUMBERS: Final = (2, 3)  # columns that end at the right
_GAP: Final = "   "
_SHORT: Final = 12
_IN_USE: Final = "U"
_LEGEND: Final = "U: in use by a container"


@dataclass(frozen=True, slots=True)
class Facts:
    """What lines are made of besides the images themselves."""

    unpacked_bytes: Callable[[ImageDetails], int]
    known: Mapping[str, ImageDetails]  # by ID: those whose layers are here
    containers: Mapping[str, Sequence[str]]  # by an image's ID: who was made of it


def tree(images: Iterable[ImageDetails], facts: Facts) -> Iterator[str]:
    """Yield the lines: of each image its names, and below the last one its platforms, also those that are not here."""
    groups = [list(_group(image, facts)) for image in images]
    rows: list[tuple[str, ...]] = [_HEADERS, *(row for group in groups for row in group)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADERS))]
    yield _LEGEND
    for group in (rows[:1], *groups):
        yield ""
        for row in group:
            cells = (
                cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            yield _GAP.join(cells).rstrip()


def _group(image: ImageDetails, facts: Facts) -> Iterator[tuple[str, ...]]:
    platforms = [each for each in image.manifests if each.kind is ManifestKind.IMAGE]
    names = sorted(image.repo_tags) or ["<untagged>"]
    for name in names[:-1]:
        yield name, *[""] * (len(_HEADERS) - 1)
    used = any(facts.containers.get(each) for each in (image.id, *(one.image_id for one in platforms)))
    content = sum(each.content_bytes for each in platforms)
    yield names[-1], *_cells(image.id, facts.unpacked_bytes(image), content, used=used)
    for each in platforms:
        branch = "└─ " if each is platforms[-1] else "├─ "
        yield branch + str(each.platform or image.platform), *_of_platform(each, facts)


def _of_platform(manifest: ImageManifest, facts: Facts) -> tuple[str, ...]:
    own = facts.known.get(manifest.image_id) if manifest.available else None
    total = manifest.content_bytes + (facts.unpacked_bytes(own) if own else 0)
    used = bool(facts.containers.get(manifest.image_id))
    return _cells(manifest.descriptor.digest, total, manifest.content_bytes, used=used)


def _cells(id: str, disk_bytes: int, content_bytes: int, *, used: bool) -> tuple[str, ...]:
    return (
        id.partition(":")[2][:_SHORT],
        human_size(disk_bytes, 3),
        human_size(content_bytes, 3),
        _IN_USE if used else "",
    )
