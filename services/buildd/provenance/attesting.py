"""One build's provenance: what its graph took from outside, and the predicates that tell of it.

Reference: moby/buildkit, docs/attestations/slsa-provenance.md.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from buildd.deferred import as_tar
from buildd.exporters.protocol import Attestation
from buildd.llb.ops import Edge, Node, SourceOp
from buildd.protocol import ImageQuery, Output, ResolvedImage, Result, Tree
from buildd.provenance.materials import ImageMaterial, Materials
from buildd.provenance.options import ProvenanceOptions
from buildd.provenance.predicate import BuildConfig, Origin, named, predicate_type, render_predicate
from buildd.solver.build import Evaluated
from sampan.errors import SampanError
from sampan.json_types import JsonObject
from sampan.oci.digest import Digest
from sampan.oci.manifest_document import descriptor_members
from sampan.oci.platform import Platform, host_platform

_OF_RECORDS: Final = ProvenanceOptions()

# Reads a definition: it takes its time, and runs in a thread.
ReadConfig = Callable[[bytes], BuildConfig]


@dataclass(frozen=True, slots=True)
class Captured:
    """What one output of a build came of."""

    origin: Origin
    definition: bytes
    outputs: Mapping[Digest, tuple[Output, ...]]  # of steps, by what the client calls them


@dataclass(frozen=True, slots=True)
class Provenance:
    """All of a build's, by platform ID; an output that is an empty tree has none."""

    captured: Mapping[str, Captured] = field(default_factory=dict)

    async def attest(
        self, options: ProvenanceOptions, read: ReadConfig, now_ns: int
    ) -> Mapping[str, tuple[Attestation, ...]]:
        """Return what an image's index or a directory tells.

        Raises:
            SampanError: the client wants all materials, and some are not known.
        """
        for each in self.captured.values():
            if options.complete and not each.origin.materials.complete:
                raise IncompleteMaterialsError(each.origin.materials)
        return await asyncio.to_thread(self._attest, options, read, now_ns)

    async def of_record(self, builder_id: str, read: ReadConfig, now_ns: int) -> Mapping[str, tuple[Attestation, ...]]:
        """Return what the history keeps: everything, whatever the client asked for."""
        return await asyncio.to_thread(self._attest, replace(_OF_RECORDS, builder_id=builder_id), read, now_ns)

    def _attest(
        self, options: ProvenanceOptions, read: ReadConfig, now_ns: int
    ) -> Mapping[str, tuple[Attestation, ...]]:
        found = {}
        for key, each in self.captured.items():
            config = read(each.definition) if options.everything else None
            layers = _layers(config.digests, each.outputs) if config is not None else {}
            predicate = render_predicate(replace(each.origin, ended_ns=now_ns), options, config, layers)
            data = json.dumps(predicate, indent=2).encode()
            told = Attestation(predicate_type(options), data, options.file_name, inline_only=options.inline_only)
            found[key] = (told,)
        return found


class IncompleteMaterialsError(SampanError):
    """A client wants to be told all materials, and some are its own."""

    def __init__(self, materials: Materials) -> None:
        names = "".join(f"\n  - {name}\n    reason: local_source" for name in sorted(materials.directories))
        super().__init__(
            "provenance materials are incomplete\n\nThe build requested complete provenance materials, but not all "
            f"dependencies could be captured.\n\nUncaptured local sources:{names}"
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """A build, as far as its provenance is about it."""

    result: Result
    platforms: Sequence[tuple[str, Platform]]  # by the IDs of its outputs
    evaluated: Sequence[Evaluated]
    images: Mapping[ImageQuery, ResolvedImage]  # that were asked for by name
    begun_ns: int


def capture(asked: Asked, digest_of: Callable[[Node], Digest], dump: Callable[[Edge], bytes]) -> Provenance:
    """Collect what a build's outputs came of. What no output is made of, such as the Dockerfile, counts for all."""
    known = {each.digest: each for each in asked.evaluated}
    graphs = {
        key: {digest_of(node) for node in _reachable(edge.node)}
        for key, edge in asked.result.edges.items()
        if edge is not None
    }
    elsewhere = known.keys() - set().union(*graphs.values()) if graphs else set()
    captured = {}
    for key, platform in asked.platforms:
        edge = asked.result.edges.get(key)
        if edge is None:
            continue
        materials = Materials()
        for digest in (*known.keys() & graphs[key], *elsewhere):
            each = known[digest]
            materials.add(_on(each.node, platform), each.pinned.pin if each.pinned is not None else "")
        for image in _of_platform(asked.images, platform, [each for _, each in asked.platforms]):
            materials.add_image(image)
        origin = Origin(
            asked.result.frontend, asked.result.attributes, materials, host_platform(), platform, asked.begun_ns, 0
        )
        outputs = {digest: known[digest].outputs for digest in known.keys() & graphs[key]}
        captured[key] = Captured(origin, dump(edge), outputs)
    return Provenance(captured)


def _on(node: Node, platform: Platform) -> Node:
    """Return a source with the platform that it was asked for."""
    return replace(node, platform=platform) if isinstance(node.op, SourceOp) and node.platform is None else node


def _of_platform(
    images: Mapping[ImageQuery, ResolvedImage], platform: Platform, platforms: Sequence[Platform]
) -> Iterator[ImageMaterial]:
    """Yield images; one that was asked for on every platform of the result counts for each with its own."""
    asked: dict[str, set[Platform]] = {}
    for query in images:
        asked.setdefault(query.reference, set()).add(query.platform)
    for query, found in images.items():
        everywhere = asked[query.reference] >= set(platforms)
        if found.digest is not None and (not everywhere or query.platform == platform):
            yield ImageMaterial(query.reference, query.platform, found.digest, local=bool(query.layout))


def _layers(
    digests: Mapping[str, str], outputs: Mapping[Digest, tuple[Output, ...]]
) -> Mapping[str, Sequence[Sequence[JsonObject]]]:
    found = {}
    for digest, several in outputs.items():
        for index, output in enumerate(several):
            name = named(digests, digest, index)
            if name is not None and isinstance(output, Tree) and output.layers:
                found[name] = [[descriptor_members(as_tar(layer).descriptor) for layer in output.layers]]
    return dict(sorted(found.items()))


def _reachable(node: Node) -> Iterable[Node]:
    seen = {node}
    waiting = [node]
    while waiting:
        last = waiting.pop()
        yield last
        new = {each.node for each in last.inputs} - seen
        seen |= new
        waiting += new
