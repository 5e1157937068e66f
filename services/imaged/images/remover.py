"""Take names away, and images with their last ones: one at a time, or many in one transaction."""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from imaged.content.blobs import ContentStore
from imaged.gc.roots import unneeded
from imaged.images import claims
from imaged.images import store as image_store
from imaged.images.claims import Claimed
from imaged.images.model import ImageRecord, Removed
from imaged.images.removal import plan_removal
from imaged.images.store import find
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.oci.digest import Digest
from sampan.resource.image import ImageChange, ImageUse
from sampan.store.database import Store

# Names of what is left of an image may change between a look at it and the transaction that needs to know.
_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Request:
    """What is to go."""

    images: Sequence[str]
    in_use: Mapping[str, ImageUse]  # by their IDs, the images that containers were made of
    force: bool = False
    no_prune: bool = False
    lenient: bool = False  # pass over what is refused
    unnamed: tuple[Digest, ...] = ()  # images that have lost a name to another one
    abandoned: Mapping[Digest, Digest] = field(default_factory=dict)  # configs, with manifests, to give up claims to


class _UnreadError(Exception):
    """What images are left with has to be read first: from disk, which is not for a transaction."""

    def __init__(self, images: dict[Digest, frozenset[Digest]]) -> None:
        super().__init__(images)
        self.images = images  # with the targets that they are left with


@dataclass(slots=True)
class _Step:
    """One transaction, under way."""

    db: sqlite3.Connection
    request: Request
    changes: list[ImageChange] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)  # of blobs that may have to go
    deleted: list[ImageRecord] = field(default_factory=list)
    before: dict[Digest, frozenset[Digest]] = field(default_factory=dict)  # targets of images that lost a name
    sharing: set[Digest] = field(default_factory=set)  # images that claimed a deleted one

    def remove(self, asked: str) -> None:
        """Do what ``plan_removal`` says. Raises what it does, and NotFoundError."""
        db, request = self.db, self.request
        record, name = find(db, asked)
        continued = bool(image_store.children(db, record.id))
        use, keeping = request.in_use.get(record.id), None
        if use is None and (name is None or image_store.target_of(db, name) != record.manifest.digest):
            use = _use_beneath(db, record, request.in_use)
            keeping = image_store.names_beside(db, name) if name is not None else None
        plan = plan_removal(record, asked, name, use, force=request.force, continued=continued, keeping=keeping)
        self.before.setdefault(record.id, claims.targets(db, record))
        image_store.delete_names(db, plan.untag)
        self.changes += [ImageChange(record.id, untagged=reference.familiar) for reference in plan.untag]
        doomed = record if plan.delete else None
        while doomed is not None:
            self.sharing.update(claims.sharers(db, doomed))
            self.digests += image_store.delete_image(db, doomed.id)
            self.deleted.append(doomed)
            self.changes.append(ImageChange(doomed.id))
            keep = request.no_prune or request.force
            doomed = None if keep else _forsaken(db, doomed.parent, request.in_use)

    def settle(self, looked: dict[Digest, Claimed]) -> None:
        """Have images that are left give up what they have no name for any more. Raises _UnreadError."""
        unread: dict[Digest, frozenset[Digest]] = {}
        gone = {record.id: record.manifest.digest for record in self.deleted} | dict(self.request.abandoned)
        for image in {**self.before, **dict.fromkeys(self.sharing)}:
            record = image_store.get_image(self.db, image)
            if record is None or not claims.has_more(self.db, record):
                continue
            after = claims.targets(self.db, record)
            if image not in self.sharing and self.before[image] == after:
                continue
            claimed = looked.get(image)
            if claimed is None or claimed.targets != after:
                unread[image] = after
            else:
                self.digests += claims.give_up(self.db, record, claimed, gone)
        if unread:
            raise _UnreadError(unread)

    def outcome(self) -> tuple[ImageChange, ...]:
        """Return the changes, with what nothing that is left is unpacked to."""
        stood = [[layer.diff_id for layer in record.layers] for record in self.deleted]
        chains = unneeded(self.db, stood)
        stacks = {record.id: stack for record, stack in zip(self.deleted, chains, strict=True)}
        return tuple(
            change if change.untagged else ImageChange(change.image, chain_ids=stacks[change.image])
            for change in self.changes
        ) + tuple(map(ImageChange, self.request.abandoned.values()))


class Remover:
    """Removes images of one engine."""

    def __init__(self, store: Store, content: ContentStore) -> None:
        self._store = store
        self._content = content

    async def remove(self, request: Request) -> Removed:
        """Remove all of it in one transaction.

        Raises:
            NotFoundError, InvalidArgumentError: no such image.
            ConflictError: see ``plan_removal``. Nothing has been changed.
        """
        looked: dict[Digest, Claimed] = {}
        changes: tuple[ImageChange, ...] = ()
        deleted: Iterable[ImageRecord] = ()

        def change(db: sqlite3.Connection) -> list[str]:
            nonlocal changes, deleted
            step = _Step(db, request, sharing=set(request.unnamed))
            for asked in request.images:
                try:
                    step.remove(asked)
                except (NotFoundError, ConflictError, InvalidArgumentError):
                    if not request.lenient:
                        raise
            step.settle(looked)
            changes, deleted = step.outcome(), step.deleted
            return step.digests

        for left in reversed(range(_TRIES)):
            try:
                gone = await self._content.drop_unused(change)
            except _UnreadError as error:
                if not left:
                    raise ConflictError("the image's names change all the time: try again") from None
                for image, targets in error.images.items():
                    looked[image] = await claims.look(self._store, self._content, image, targets)
            else:
                break
        return Removed(changes, sum(gone.values()), tuple(deleted))


def _use_beneath(db: sqlite3.Connection, record: ImageRecord, in_use: Mapping[str, ImageUse]) -> ImageUse | None:
    """Return who uses what an image's index has for another platform and is no image of its own; runners first."""
    uses = [
        in_use[digest]
        for digest in image_store.claimed(db, record.id)
        if digest in in_use and image_store.get_image(db, digest) is None
    ]
    return max(uses, key=lambda use: use.running, default=None)


def _forsaken(db: sqlite3.Connection, image: Digest | None, in_use: Collection[str]) -> ImageRecord | None:
    """Return an image, if it is here and nothing is left that needs or names it."""
    record = image_store.get_image(db, image) if image is not None else None
    if record is None or record.names or record.id in in_use or image_store.children(db, record.id):
        return None
    return record
