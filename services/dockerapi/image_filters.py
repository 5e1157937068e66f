"""The filters of ``docker images``."""

import fnmatch
from collections.abc import Callable, Iterable, Sequence

from dockerapi.call import Filters, only
from dockerapi.times import now, parse_point
from sampan.api.image.v1 import images_pb2
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.reference import parse_reference

Image = images_pb2.Image
Moment = tuple[int, int]

_TRUE = frozenset({"1", "true", "t", "True", "TRUE", "T"})
_FALSE = frozenset({"0", "false", "f", "False", "FALSE", "F"})


def choose(images: Sequence[Image], filters: Filters, *, time_of: Callable[[Image], Moment]) -> list[Image]:
    """Return the images that pass every filter; of a filter's values one is enough, of labels all are needed.

    Raises:
        InvalidArgumentError: an unknown filter or a bad value.
        NotFoundError: ``before`` or ``since`` names no image.
    """
    only(filters, "dangling", "label", "label!", "before", "since", "reference", "until")
    chosen = list(images)
    if "dangling" in filters:
        wanted = _boolean("dangling", filters["dangling"])
        chosen = [image for image in chosen if bool(image.repo_tags) is not wanted]
    for text in filters.get("label", ()):
        chosen = [image for image in chosen if _labelled(image, text)]
    for text in filters.get("label!", ()):
        chosen = [image for image in chosen if not _labelled(image, text)]
    for name in filters.get("before", ()):
        limit = time_of(_find(images, name))
        chosen = [image for image in chosen if time_of(image) < limit]
    for name in filters.get("since", ()):
        limit = time_of(_find(images, name))
        chosen = [image for image in chosen if time_of(image) > limit]
    for text in filters.get("until", ()):
        point = parse_point(text, "until") or now()
        chosen = [image for image in chosen if time_of(image) < (point.seconds, point.nanos)]
    if "reference" in filters:
        chosen = [matched for image in chosen if (matched := _matching(image, filters["reference"])) is not None]
    return chosen


def _boolean(name: str, values: Iterable[str]) -> bool:
    for value in values:
        if value in _TRUE:
            return True
        if value not in _FALSE:
            raise InvalidArgumentError(f"invalid filter '{name}=[{value}]'")
    return False


def _labelled(image: Image, text: str) -> bool:
    key, equals, value = text.partition("=")
    return key in image.config.labels and (not equals or image.config.labels[key] == value)


def _find(images: Iterable[Image], name: str) -> Image:
    """Find by ID, prefix of an ID, or name."""
    for image in images:
        if name and image.id.startswith((name, f"sha256:{name}")):
            return image
    wanted = parse_reference(name).with_default_tag().familiar
    for image in images:
        if wanted in image.repo_tags or wanted in image.repo_digests:
            return image
    raise NotFoundError(f"No such image: {name}")


def _matching(image: Image, patterns: Iterable[str]) -> Image | None:
    """Return the image with only those names that match, or None if none does."""
    tags = [name for name in image.repo_tags if _matches(name, patterns)]
    digests = [name for name in image.repo_digests if _matches(name, patterns)]
    if not tags and not digests:
        return None
    result = Image()
    result.CopyFrom(image)
    del result.repo_tags[:]
    result.repo_tags.extend(tags)
    del result.repo_digests[:]
    result.repo_digests.extend(digests)
    return result


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """A pattern is that of a shell; ``*`` stops at a slash, and the tag may be left out."""
    repository = name.partition("@")[0]
    if ":" in repository.rpartition("/")[2]:
        repository = repository.rpartition(":")[0]
    return any(_glob(candidate, pattern) for pattern in patterns for candidate in (name, repository))


def _glob(text: str, pattern: str) -> bool:
    ours, theirs = text.split("/"), pattern.split("/")
    return len(ours) == len(theirs) and all(map(fnmatch.fnmatchcase, ours, theirs))
