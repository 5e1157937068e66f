"""Docker's filters of the build cache, as the builder takes them.

Reference: Docker Engine API 1.43, "BuildPrune".
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sampan.build.request import PruneOptions
from sampan.docker.booleans import query_bool
from sampan.docker.durations import parse_duration
from sampan.errors import InvalidArgumentError

_TRUTHS: Final = frozenset(("inuse", "shared", "private", "mutable", "immutable"))
_AGES: Final = ("until", "unused-for")
_PARTS: Final = frozenset(("id", "description"))
_WHOLE: Final = frozenset(("parents", "type"))

# What `docker system prune` sends along for other objects. Like dockerd: no cache has any, and all of it is meant.
_LABELS: Final = ("label", "label!")

CACHE_FILTERS: Final = (*_AGES, *sorted(_TRUTHS | _PARTS | _WHOLE))


@dataclass(frozen=True, slots=True)
class PruneLimits:
    """How far a prune goes, whatever its filters choose."""

    all: bool = False  # also internal records and those that images share
    reserved_bytes: int = 0  # stays in any case
    max_used_bytes: int = 0
    min_free_bytes: int = 0


def prune_options(filters: Mapping[str, Sequence[str]], limits: PruneLimits) -> PruneOptions:
    """Return what is to be pruned.

    Raises:
        InvalidArgumentError: an unknown filter, one that is given twice, or a value that cannot be; named.
    """
    return PruneOptions(
        filters=_terms(filters),
        keep_duration_ns=_unused_for_ns(filters),
        all=limits.all,
        reserved_bytes=limits.reserved_bytes,
        max_used_bytes=limits.max_used_bytes,
        min_free_bytes=limits.min_free_bytes,
    )


def _terms(filters: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    found = []
    for name, values in filters.items():
        if name in _AGES or name in _LABELS:
            continue
        if name not in _TRUTHS | _PARTS | _WHOLE:
            raise InvalidArgumentError(f"invalid filter '{name}'")
        value = _single(name, values)
        if name in _TRUTHS:
            found.append(name if query_bool(value) else f"{name}!=true")
        else:
            found.append(f"{name}{'~=' if name in _PARTS else '=='}{json.dumps(value)}")
    return (",".join(found),) if found else ()


def _unused_for_ns(filters: Mapping[str, Sequence[str]]) -> int:
    given = [value for name in _AGES for value in filters.get(name, ())]
    return parse_duration(_single("until", given)) if given else 0


def _single(name: str, values: Sequence[str]) -> str:
    if len(values) != 1:
        raise InvalidArgumentError(f"invalid filter '{name}': it is given once")
    return values[0]
