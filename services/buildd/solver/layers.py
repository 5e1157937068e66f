"""Arithmetic on layers, without a look at a tree's files: MergeOp, DiffOp, and the lines that images' histories get.

Reference: moby/buildkit, docs/dev/merge-diff.md.
"""

from collections.abc import Sequence
from typing import Final

from buildd.llb.ops import NO_INPUT, DiffOp, ExecOp, FileOp, MergeOp, Op, SourceOp
from buildd.protocol import FileWorker, Output, Tree
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.resource.image import Layer

_OF_IMAGES: Final = ("docker-image", "oci-layout")


async def combine(op: MergeOp | DiffOp, inputs: Sequence[Output], files: FileWorker) -> Tree:
    """Carry out either; a client's directory counts as the layer that it is made.

    Raises:
        InvalidArgumentError, UnimplementedError: as ``merge`` and ``diff``.
    """
    trees = [each if isinstance(each, Tree) else await files.flatten(each) for each in inputs]
    return merge(op, trees) if isinstance(op, MergeOp) else diff(op, trees)


def merge(op: MergeOp, inputs: Sequence[Tree]) -> Tree:
    """Put trees on top of each other, the first one lowest. What a tree begins with as the result does comes once.

    Raises:
        InvalidArgumentError: an input that is not there.
    """
    layers: list[Layer] = []
    unchanged: list[int] = []
    for number, index in enumerate(op.inputs):
        added = _input(inputs, index)
        common = _common(layers, added.layers)
        above = len(layers) - common
        # What the first tree says of steps below a common base, the others say again.
        unchanged += [above + below for below in added.unchanged if number == 0 or not common or below > common]
        layers += added.layers[common:]
    return Tree(tuple(layers), tuple(unchanged))


def diff(op: DiffOp, inputs: Sequence[Tree]) -> Tree:
    """Return the layers that the upper tree has on the lower one.

    Raises:
        InvalidArgumentError: an input that is not there.
        UnimplementedError: the upper tree does not stand on the lower one.
    """
    lower, upper = _input(inputs, op.lower).layers, _input(inputs, op.upper)
    if _common(lower, upper.layers) < len(lower):
        raise UnimplementedError(
            "a diff of two trees of which the upper does not stand on the lower one cannot be made: "
            "make the upper one from the lower one"
        )
    unchanged = [below - len(lower) for below in upper.unchanged if not lower or below > len(lower)]
    return Tree(upper.layers[len(lower) :], tuple(unchanged))


def with_history(op: Op, inputs: Sequence[Output], outputs: Sequence[Tree]) -> tuple[Tree, ...]:
    """Return a step's outputs with ``unchanged`` of what they were made from, and of the step itself.

    A result in the cache is for every graph that leads to the same files, whatever steps without effect are in it.
    """
    found = []
    for index, tree in enumerate(outputs):
        at = _base_of(op, index, len(inputs))
        base = inputs[at] if 0 <= at < len(inputs) else Tree()
        if not isinstance(base, Tree):
            base = Tree()
        nothing = (len(base.layers),) if len(tree.layers) == len(base.layers) else ()
        found.append(Tree(tree.layers, (*base.unchanged, *nothing)))
    return tuple(found)


def can_be(op: Op, inputs: Sequence[Output], outputs: Sequence[Tree]) -> bool:
    """Say whether ``outputs``, as somebody else tells them, can be a step's: as many, and each on what it is made from.

    What a step has written is believed. What it stood on is known, and so are an image's layers: nobody tells those.
    """
    if isinstance(op, SourceOp):
        return len(outputs) == 1 and op.identifier.partition("://")[0] not in _OF_IMAGES
    if len(outputs) != len({each for each in _outputs_of(op) if each >= 0}):
        return False
    for index, tree in enumerate(outputs):
        at = _base_of(op, index, len(inputs))
        base = inputs[at] if 0 <= at < len(inputs) else Tree()
        if not isinstance(base, Tree):  # of a client's directory, whose layer only the step makes
            continue
        if _common(base.layers, tree.layers) < len(base.layers) or len(tree.layers) > len(base.layers) + 1:
            return False
    return True


def _outputs_of(op: Op) -> Sequence[int]:
    if isinstance(op, ExecOp):
        return [mount.output for mount in op.mounts]
    return [action.output for action in op.actions] if isinstance(op, FileOp) else [0]


def _base_of(op: Op, output: int, count: int) -> int:
    """Return the index among ``count`` inputs that an output is made from; ``NO_INPUT`` for the empty tree."""
    if isinstance(op, ExecOp):
        return next((mount.input for mount in op.mounts if mount.output == output), NO_INPUT)
    if not isinstance(op, FileOp):
        return NO_INPUT
    # From the last action to the first: indices from ``count`` on are of earlier actions.
    at = next((count + n for n, action in enumerate(op.actions) if action.output == output), NO_INPUT)
    for number in reversed(range(len(op.actions))):
        if at == count + number:
            at = op.actions[number].input
    return at


def _input(inputs: Sequence[Tree], index: int) -> Tree:
    if index == NO_INPUT:
        return Tree()
    if not 0 <= index < len(inputs):
        raise InvalidArgumentError(f"invalid input index {index} of an operation with {len(inputs)} inputs")
    return inputs[index]


def _common(first: Sequence[Layer], second: Sequence[Layer]) -> int:
    """Return how many layers both begin with."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a.diff_id != b.diff_id), min(len(first), len(second)))
