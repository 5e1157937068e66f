"""The filters of ``docker images`` and ``docker image prune``."""

import fnmatch
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sampan.api.image.v1 import images_pb2
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.reference import parse_reference

Image = images_pb2.Image
Filters = Mapping[str, Sequence[str]]

LISTED: Final = ("dangling", "label", "label!", "before", "since", "reference", "until")
PRUNED: Final = ("dangling", "label", "label!", "until")

_TRUE: Final = frozenset({"1", "true"})
_FALSE: Final = frozenset({"0", "false"})

_DATE: Final = re.compile(r"\d{4}-(\d\d)-\d\d.*")
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNITS_NS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_SECONDS: Final = re.compile(r"(\d+)(?:\.(\d{1,9})\d*)?")


@dataclass(frozen=True, slots=True)
class Prunable:
    """What a prune is about."""

    dangling: bool  # only images without a tag
    wanted: Callable[[Image], bool]


def choose(images: Sequence[Image], filters: Filters, now_ns: int) -> list[Image]:
    """Return the images that pass every filter; of a filter's values one is enough, of labels all are needed.

    With ``reference`` an image comes with only those of its names that match.

    Raises:
        InvalidArgumentError: an unknown filter or a bad value.
        NotFoundError: ``before`` or ``since`` names no image.
    """
    _only(filters, LISTED)
    chosen = [image for image in images if _matches_labels(image, filters)]
    if "dangling" in filters:
        wanted = _boolean("dangling", filters["dangling"])
        chosen = [image for image in chosen if bool(image.repo_tags) is not wanted]
    for name in filters.get("before", ()):
        limit = created_ns(_find(images, name))
        chosen = [image for image in chosen if created_ns(image) < limit]
    for name in filters.get("since", ()):
        limit = created_ns(_find(images, name))
        chosen = [image for image in chosen if created_ns(image) > limit]
    for text in filters.get("until", ()):
        limit = until_ns(text, now_ns)
        chosen = [image for image in chosen if created_ns(image) <= limit]
    if "reference" in filters:
        patterns = [_checked(pattern) for pattern in filters["reference"]]
        chosen = [matched for image in chosen if (matched := _matching(image, patterns)) is not None]
    return chosen


def prunable(filters: Filters, now_ns: int) -> Prunable:
    """Return what a prune with these filters may remove, if nothing uses it.

    Raises:
        InvalidArgumentError: an unknown filter or a bad value.
    """
    _only(filters, PRUNED)
    dangling = _boolean("dangling", filters["dangling"]) if "dangling" in filters else True
    limits = [until_ns(text, now_ns) for text in filters.get("until", ())]
    if len(limits) > 1:
        raise InvalidArgumentError("more than one until filter specified")

    def wanted(image: Image) -> bool:
        return _matches_labels(image, filters) and all(created_ns(image) <= limit for limit in limits)

    return Prunable(dangling, wanted)


def created_ns(image: Image) -> int:
    """Return when an image was made, in nanoseconds since the epoch."""
    return image.created.seconds * 10**9 + image.created.nanos


def until_ns(text: str, now_ns: int) -> int:
    """Read a moment: seconds since 1970, a date or RFC 3339, or a duration such as ``1h30m`` before now.

    Raises:
        InvalidArgumentError: it is none of these.
    """
    pieces = _DURATION.findall(text)
    if pieces and "".join(number + unit for number, unit in pieces) == text:
        return now_ns - sum(int(float(number) * _UNITS_NS[unit]) for number, unit in pieces)
    if match := _SECONDS.fullmatch(text):
        return int(match[1]) * 10**9 + int((match[2] or "").ljust(9, "0"))
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.astimezone()).timestamp() * 1e6) * 1000
    except (ValueError, OverflowError):
        raise InvalidArgumentError(_not_a_time(text)) from None


def _not_a_time(text: str) -> str:
    """Return what Go says of it."""
    quoted = json.dumps(text, ensure_ascii=False)
    if "-" not in text:
        return f"failed to parse value as time or duration: {quoted}"
    if date := _DATE.fullmatch(text):
        return f"parsing time {quoted}: {'day' if 1 <= int(date[1]) <= 12 else 'month'} out of range"
    return f'parsing time {quoted} as "2006-01-02": cannot parse {quoted} as "2006"'


def _only(filters: Filters, known: Iterable[str]) -> None:
    for key in filters:
        if key not in known:
            raise InvalidArgumentError(f"invalid filter '{key}'")


def _boolean(name: str, values: Sequence[str]) -> bool:
    given = set(values)
    if not given:
        raise InvalidArgumentError(f"invalid filter '{name}'")
    is_true, is_false = bool(given & _TRUE), bool(given & _FALSE)
    if is_true == is_false:
        raise InvalidArgumentError(f"invalid filter '{name}=[{' '.join(values)}]'")
    return is_true


def _matches_labels(image: Image, filters: Filters) -> bool:
    return all(_labelled(image, text) for text in filters.get("label", ())) and not any(
        _labelled(image, text) for text in filters.get("label!", ())
    )


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
    raise NotFoundError(f"No such image: {wanted}")


def _checked(pattern: str) -> str:
    """Return a shell's pattern as Python reads it. Raises InvalidArgumentError, in Go's words."""
    if pattern.count("[") != pattern.count("]"):
        raise InvalidArgumentError("syntax error in pattern")
    return pattern.replace("[^", "[!")


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
