"""What gives a build's result away, and what it is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from buildd.protocol import Output, StepContext
from sampan.build.request import Export
from sampan.json_types import JsonObject
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest


@dataclass(frozen=True, slots=True)
class Attestation:
    """What is said of an output, in in-toto's form; who exports it knows what its subject is called there."""

    predicate_type: str  # a URI
    predicate: bytes = field(repr=False)  # JSON
    file_name: str  # beside files
    subjects: tuple[JsonObject, ...] = ()  # what it is about; none: the output
    inline_only: bool = False  # for images alone, and not for archives of them


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made: outputs and metadata under the keys of ``Result``."""

    outputs: Mapping[str, Output | None]
    metadata: Mapping[str, bytes] = field(default_factory=dict)
    taken: frozenset[Digest] = frozenset()  # layers, by diff ID, that are of other images
    attestations: Mapping[str, tuple[Attestation, ...]] = field(default_factory=dict)  # by the outputs' keys
    made_ns: Mapping[Digest, int] = field(default_factory=dict)  # when layers were made, by diff ID, since the epoch


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of an export."""

    told: Mapping[str, str] = field(default_factory=dict)  # to the client: ``containerimage.digest`` and its kin
    target: Descriptor | None = None  # of an image
    documents: Mapping[Descriptor, bytes] = field(default_factory=dict, repr=False)  # all but layers


class Exporters(Protocol):
    """Gives results away."""

    def check(self, export: Export) -> None:
        """Raises InvalidArgumentError: an unknown type or attribute, named; before anything is built."""

    async def export(
        self, result: BuildResult, export: Export, context: StepContext, inline_cache: Mapping[str, bytes]
    ) -> Exported:
        """Carry it out and return what came of it.

        ``inline_cache`` is what goes into each platform's config as ``moby.buildkit.cache.v0``.
        """
