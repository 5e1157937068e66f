"""What the builder can be told. The supervisor reads it, too, to listen where it is to listen."""

from dataclasses import dataclass

from buildd.cache.bounds import Bounds, PruneRule
from sampan.service.config import ProxyConfig, option, tables


@dataclass(frozen=True, slots=True)
class Config(ProxyConfig):
    """What the builder can be told."""

    allow_network_host: bool = option(default=True, help="let a build's client grant it the host's network")
    allow_security_insecure: bool = option(default=False, help="let a build's client grant it all rights on the host")
    max_parallelism: int = option(0, "most processes of steps at the same time; 0: twice the processors, four at least")
    max_processes: int = option(0, "most processes and threads of one step; 0: half of what the system allows; -1: any")
    cache_reserved_bytes: int = option(0, "bytes of build cache that stay in any case; 0: by the disk's size")
    cache_max_bytes: int = option(0, "most bytes of build cache; 0: by the disk's size")
    cache_min_free_bytes: int = option(0, "bytes of the disk that the build cache leaves free; 0: by its size")
    cache_gc: bool = option(True, "prune the build cache by itself")
    cache_policy: tuple[PruneRule, ...] = tables(
        "what of the build cache is pruned by itself, one rule after another; without any, as BuildKit has it"
    )
    defer_bytes: int = option(16 << 20, "bytes from which on a layer's blob is made when it is needed; 0: at once")
    idle_s: float = option(
        120.0,
        "seconds without a client, a build or a scrape until the process ends, and starts when asked; 0: it stays",
    )

    @property
    def bounds(self) -> Bounds | None:
        """What the build cache is kept within; None: nothing is pruned by itself. InvalidArgumentError."""
        if not self.cache_gc:
            return None
        rules = tuple(rule.options for rule in self.cache_policy)
        return Bounds(self.cache_reserved_bytes, self.cache_max_bytes, self.cache_min_free_bytes, rules)
