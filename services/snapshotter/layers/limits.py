"""How big a layer may be. A blob of some megabytes can hold more than any disk does."""

from dataclasses import dataclass
from typing import Final

from sampan.tar.entry import Limits

# Up to this size a layer may be mostly zeros, which gzip packs a thousandfold and zstd ten thousandfold.
_FREE_BYTES: Final = 8 << 30


@dataclass(frozen=True, slots=True)
class LayerLimits:
    """What all layers are held to."""

    entries: int = 2_000_000  # some 250 bytes of a worker's memory each
    total_bytes: int = 1 << 40
    ratio: int = 250  # real layers have about 3

    def of(self, blob_bytes: int) -> Limits:
        """Return what the layer in a blob of that size may ask for."""
        most = max(_FREE_BYTES, blob_bytes * self.ratio)
        return Limits(entries=self.entries, total_bytes=min(self.total_bytes, most))
