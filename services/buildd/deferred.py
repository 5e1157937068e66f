"""Layers that the snapshotter has, and nobody has made a blob of yet: see docs/architecture.md, "deferred".

In a ``Tree`` such a layer has the descriptor of its tar, whose digest is the diff ID, but for the type, which no
document names. So it is told from a layer whose blob is a tar, wherever it is kept or handed on.
"""

from dataclasses import replace
from typing import Final

from buildd.protocol import Tree
from sampan.oci import descriptor as media
from sampan.resource.image import Layer

DEFERRED: Final = "application/vnd.sampan.layer.deferred"


def is_deferred(layer: Layer) -> bool:
    """Say whether a layer is one."""
    return layer.descriptor.media_type == DEFERRED


def deferred(layer: Layer) -> Layer:
    """Return a layer as one."""
    return replace(layer, descriptor=replace(layer.descriptor, media_type=DEFERRED))


def as_tar(layer: Layer) -> Layer:
    """Return a layer as documents name it: a deferred one by its tar."""
    if not is_deferred(layer):
        return layer
    return replace(layer, descriptor=replace(layer.descriptor, media_type=media.OCI_LAYER))


def is_only_copy(tree: Tree) -> bool:
    """Say whether nothing brings a tree's uppermost layer back, if it is lost, but the step that made it."""
    return bool(tree.layers) and is_deferred(tree.layers[-1])
