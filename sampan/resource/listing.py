"""Which objects of a kind are wanted, and what a removal of many came to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

T = TypeVar("T")

# Docker's filters: any of the values of each name.
Filters = Mapping[str, tuple[str, ...]]


NO_FILTERS: Final[Filters] = {}

# An owner that stands for all of them, and for none.
EVERYONE: Final = "*"


@dataclass(frozen=True, slots=True)
class Selection:
    """How much of the list of containers is wanted."""

    all: bool = False  # not only running ones
    limit: int = 0  # newest; 0: no limit. A limit includes those that do not run
    latest: bool = False
    owner: str = ""  # whose; empty: those without an owner; ``EVERYONE``: all


RUNNING_ONES: Final = Selection()
ALL: Final = Selection(all=True)
ALL_OF_EVERYONE: Final = Selection(all=True, owner=EVERYONE)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed: IDs of containers, names of networks and volumes."""

    removed: tuple[str, ...] = ()
    reclaimed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list, of bounded size."""

    items: Sequence[T]
    size_bytes: int  # as it was sent
