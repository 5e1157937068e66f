"""Results of a build in a form that travels: inside of an image whose layers they are made of.

The document is JSON in the config of an image, as BuildKit's inline cache is, under the same member; its form tells it
from BuildKit's. ``records`` pair a step's cache key with its outputs, and an output is a list of the image's layers, by
number. Whoever imports it trusts the author of the image for what the steps came to, as with BuildKit; what the layers
are is proven by their digests.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from buildd.protocol import Tree
from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject
from sampan.oci.digest import Digest
from sampan.oci.json_documents import load_json
from sampan.resource.image import Layer

MEMBER: Final = "moby.buildkit.cache.v0"

_FORM: Final = "sampan.v1"
_MAX_RECORDS: Final = 50_000


@dataclass(frozen=True, slots=True)
class CachedResult:
    """What one step came to."""

    key: Digest
    outputs: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class CacheDocument:
    """Results, and all layers that they are made of."""

    layers: tuple[Layer, ...] = ()
    results: Mapping[Digest, tuple[Tree, ...]] = field(default_factory=dict)


def whole(results: Sequence[CachedResult]) -> CacheDocument:
    """Return a document of all results, with every layer that one of them has."""
    layers: dict[Digest, Layer] = {}
    for result in results:
        for tree in result.outputs:
            layers |= {layer.diff_id: layer for layer in tree.layers if layer.diff_id not in layers}
    return CacheDocument(tuple(layers.values()), {result.key: result.outputs for result in results})


def within(tree: Tree, results: Sequence[CachedResult]) -> CacheDocument:
    """Return a document of those results that need no layers but those of ``tree``."""
    known = {layer.diff_id for layer in tree.layers}
    fitting = {
        result.key: result.outputs
        for result in results
        if all(layer.diff_id in known for output in result.outputs for layer in output.layers)
    }
    return CacheDocument(tree.layers, fitting)


def render_document(document: CacheDocument) -> bytes:
    """Return the member's value, before base64; it names layers by their place in ``document.layers``."""
    places = {layer.diff_id: place for place, layer in enumerate(document.layers)}
    records = [
        {"key": key, "outputs": [_output(tree, places) for tree in outputs]}
        for key, outputs in document.results.items()
    ]
    return json.dumps({"form": _FORM, "records": records}, separators=(",", ":")).encode()


def _output(tree: Tree, places: Mapping[Digest, int]) -> JsonObject:
    members: JsonObject = {"layers": [places[layer.diff_id] for layer in tree.layers]}
    if tree.unchanged:
        members["unchanged"] = list(tree.unchanged)
    return members


def parse_document(config: bytes, layers: Sequence[Layer], what: str) -> CacheDocument:
    """Read what an image's config says of its layers, which are those of its manifest; nothing is said: no results.

    Raises:
        InvalidArgumentError: a document that cannot be, such as one that names a layer that is not there.
    """
    said = load_json(config, what)
    encoded = said.get(MEMBER) if isinstance(said, dict) else None
    if not isinstance(encoded, str):
        return CacheDocument(tuple(layers))
    try:
        document = load_json(base64.b64decode(encoded, validate=True), what)
    except ValueError as error:
        raise InvalidArgumentError(f"{what}: {MEMBER} is not base64") from error
    if not isinstance(document, dict) or document.get("form") != _FORM:
        return CacheDocument(tuple(layers))  # BuildKit's own, whose keys mean nothing here
    records = document.get("records")
    if not isinstance(records, list) or len(records) > _MAX_RECORDS:
        raise InvalidArgumentError(f"{what}: records of the build cache are not a list of at most {_MAX_RECORDS}")
    try:
        results = {
            Digest.parse(record["key"]): tuple(_tree(output, layers) for output in record["outputs"])
            for record in records
        }
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, InvalidArgumentError) as error:
        raise InvalidArgumentError(f"{what}: a record of the build cache is damaged: {error!r}") from error
    return CacheDocument(tuple(layers), results)


def _tree(output: Mapping[str, Sequence[int]], layers: Sequence[Layer]) -> Tree:
    numbers, unchanged = tuple(output["layers"]), tuple(output.get("unchanged", ()))
    if not all(type(number) is int and 0 <= number < len(layers) for number in numbers):
        raise IndexError("a layer that the image does not have")
    if not all(type(count) is int and 0 <= count <= len(numbers) for count in unchanged):
        raise IndexError("a step that changed nothing is beyond the layers")
    return Tree(tuple(layers[number] for number in numbers), tuple(sorted(unchanged)))
