"""What removing an image or a name comes to: Docker's rules, as arithmetic on records.

Reference: Docker Engine API, "Remove an image"; the daemon's behaviour where that is silent.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from imaged.images.model import ImageRecord
from sampan.errors import ConflictError
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference, in_one_repository


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes."""

    untag: tuple[Reference, ...]
    delete: bool


_USED: Final = "image is being used by a container"


def plan_removal(
    record: ImageRecord,
    asked: str,
    name: Reference | None,
    in_use: Collection[str],
    *,
    force: bool,
    continued: bool = False,
) -> Plan:
    """Decide what goes when ``asked`` is removed.

    Args:
        record: the image it was found to be.
        asked: as the user typed it, for messages.
        name: the name it is, None if it was an ID or part of one.
        in_use: IDs of images that must stay: with ``force``, those of running containers.
        force: take away the last name of a used image, or all names of several repositories.
        continued: other images were committed from it; without a name it stays, for their sake.

    Raises:
        ConflictError: in Docker's words.
    """
    used = record.id in in_use
    if name is not None:
        plan = _by_name(record, asked, name, used=used, force=force)
        return Plan(plan.untag, delete=plan.delete and not continued)
    if continued:
        raise _conflict(record.id, "cannot be forced", "image has dependent child images")
    if len(record.names) > 1 and not in_one_repository(record.names) and not force:
        raise _conflict(record.id, "must be forced", "image is referenced in multiple repositories")
    if used:
        raise _conflict(record.id, "cannot be forced" if force else "must be forced", _USED)
    return Plan(record.names, delete=True)


def _by_name(record: ImageRecord, asked: str, name: Reference, *, used: bool, force: bool) -> Plan:
    if used and not force and in_one_repository(record.names):
        raise ConflictError(
            f'conflict: unable to remove repository reference "{asked}" (must force) - '
            f"a container is using its referenced image {record.id.short}"
        )
    untag = [name]
    rest = [other for other in record.names if other != name]
    if name.digest is None and not any(other.name == name.name and other.digest is None for other in rest):
        # Without a tag in the repository nobody would know the digests there either.
        untag += [other for other in rest if other.name == name.name]
        rest = [other for other in rest if other.name != name.name]
    return Plan(tuple(untag), delete=not rest and not used)


def _conflict(image: Digest, way_out: str, why: str) -> ConflictError:
    return ConflictError(f"conflict: unable to delete {image.short} ({way_out}) - {why}")
