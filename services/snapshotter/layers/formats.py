"""How layers are stored; apart from the other nouns because a worker, which must start fast, needs no more."""

import enum


class LayerFormat(enum.Enum):
    """How a layer is stored."""

    EROFS = "erofs"  # a directory with one file, ``image``: a read-only file system, marks as for TREE
    TREE = "tree"  # a directory with overlayfs's marks for what the layer removes
