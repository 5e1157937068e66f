"""What removing an image or a name comes to: Docker's rules, as arithmetic on records. Nobody else decides any of it.

Reference: Docker Engine API, "Remove an image"; moby/moby, ``daemon/images/image_delete.go``.
"""

from collections.abc import Collection
from dataclasses import dataclass

from imaged.images.model import ImageRecord
from sampan.errors import ConflictError
from sampan.oci.digest import Digest
from sampan.oci.reference import Reference, in_one_repository
from sampan.resource.image import ImageUse


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes."""

    untag: tuple[Reference, ...]
    delete: bool


def plan_removal(
    record: ImageRecord,
    asked: str,
    name: Reference | None,
    use: ImageUse | None,
    *,
    force: bool,
    continued: bool = False,
    keeping: Collection[Reference] | None = None,
) -> Plan:
    """Decide what goes when ``asked`` is removed.

    Args:
        record: the image it was found to be.
        asked: as the user typed it, for messages.
        name: the name it is, None if it was an ID or part of one.
        use: the container that was made of it, if one was.
        force: take away the last name of a used image, all names of several repositories, and the image from under
            containers that do not run.
        continued: other images were committed from it; without a name it stays, for their sake.
        keeping: its names that lead to what the container was made of; None: all of them do.

    Raises:
        ConflictError: in Docker's words, and in its order where several things forbid it.
    """
    if name is not None:
        plan = _by_name(record, asked, name, use, record.names if keeping is None else keeping, force=force)
        return Plan(plan.untag, delete=plan.delete and not continued)
    if continued:
        raise _conflict(record.id, "cannot be forced", "image has dependent child images")
    if use is not None and use.running:
        raise in_the_way(record.id, use)
    if not force and not in_one_repository(record.names):
        raise _conflict(record.id, "must be forced", "image is referenced in multiple repositories")
    if not force and use is not None:
        raise in_the_way(record.id, use)
    return Plan(record.names, delete=True)


def in_the_way(image: Digest, use: ImageUse) -> ConflictError:
    """Return the refusal to take an image away from a container."""
    state, way_out = ("running", "cannot be forced") if use.running else ("stopped", "must be forced")
    return _conflict(image, way_out, f"image is being used by {state} container {use.container[:12]}")


def _by_name(
    record: ImageRecord,
    asked: str,
    name: Reference,
    use: ImageUse | None,
    keeping: Collection[Reference],
    *,
    force: bool,
) -> Plan:
    if use is not None and not force and in_one_repository(keeping):
        raise ConflictError(
            f'conflict: unable to remove repository reference "{asked}" (must force) - '
            f"container {use.container[:12]} is using its referenced image {record.id.short}"
        )
    untag = [name]
    rest = [other for other in record.names if other != name]
    if name.digest is None and not any(other.name == name.name and other.digest is None for other in rest):
        # Without a tag in the repository nobody would know the digests there either.
        untag += [other for other in rest if other.name == name.name]
        rest = [other for other in rest if other.name != name.name]
    # Under a container that runs it stays even by force, without a name.
    held = use is not None and (use.running or not force)
    return Plan(tuple(untag), delete=not rest and not held)


def _conflict(image: Digest, way_out: str, why: str) -> ConflictError:
    return ConflictError(f"conflict: unable to delete {image.short} ({way_out}) - {why}")
