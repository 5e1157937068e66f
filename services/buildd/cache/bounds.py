"""What the build cache is kept within, as configured; the supervisor loads it, too, with the configuration."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sampan.errors import InvalidArgumentError
from sampan.service.config import option

if TYPE_CHECKING:
    from sampan.build.request import PruneOptions


@dataclass(frozen=True, slots=True)
class PruneRule:
    """What of the cache is pruned by itself, as configured: dockerd's ``builder.gc.policy``."""

    filters: tuple[str, ...] = option((), 'records that all of these accept: "type==source.local"; empty: any')
    all: bool = option(False, "also internal records and those that images share")
    unused_for_s: int = option(0, "seconds since its last use for which a record stays")
    reserved_bytes: int = option(0, "bytes that stay in any case")
    max_used_bytes: int = option(0, "most bytes that stay; 0: any number")
    min_free_bytes: int = option(0, "bytes of the disk that are left free")

    @property
    def options(self) -> "PruneOptions":
        """The rule as it is carried out. InvalidArgumentError: a filter or a number that cannot be."""
        numbers = (self.unused_for_s, self.reserved_bytes, self.max_used_bytes, self.min_free_bytes)
        if min(numbers) < 0:
            raise InvalidArgumentError(f"cache_policy: {min(numbers)} is no number of bytes or seconds")
        from buildd.cache.prune import record_filter  # half of the builder, which reading a configuration does not need
        from sampan.build.request import PruneOptions

        try:
            record_filter(self.filters, 0)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"cache_policy: {error}") from error
        seconds, *sizes = numbers
        return PruneOptions((",".join(self.filters),) if self.filters else (), self.all, seconds * 10**9, *sizes)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much the cache may take; 0 is the default of each, which depends on the disk's size."""

    reserved_bytes: int = 0  # is kept in any case: a tenth of the disk, 10 GB at most
    max_used_bytes: int = 0  # is never exceeded for long: six tenths, 100 GB at most
    min_free_bytes: int = 0  # is left to others: a fifth
    rules: "tuple[PruneOptions, ...]" = ()  # in the place of all that, one after another
