"""In which order the actions of a file operation are carried out, and on which snapshots.

Actions form a graph: each changes an input, or what an earlier one has made. Actions that only follow each other are
carried out on one snapshot.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from buildd.llb.ops import NO_INPUT, NO_OUTPUT, Copy, FileAction, Remove
from sampan.errors import InvalidArgumentError


@dataclass(frozen=True, slots=True)
class Run:
    """Actions on one snapshot, one after another."""

    base: int  # what it begins with: an input, a state, or ``NO_INPUT``
    actions: tuple[FileAction, ...]
    state: int  # the number of what it makes: that of its last action

    @property
    def reads(self) -> frozenset[int]:
        """The inputs and states that its actions read besides."""
        return frozenset(index for action in self.actions for index in _read(action) if index != NO_INPUT)


def plan(actions: Sequence[FileAction], inputs: int) -> tuple[Run, ...]:
    """Return what to do, each run after those that it needs; ``inputs`` is how many inputs there are.

    Raises:
        InvalidArgumentError: an action refers to what is not there, or none has an output.
    """
    _check(actions, inputs)
    users = Counter(index for action in actions for index in (action.input, *_read(action)))
    runs: dict[int, Run] = {}  # by state
    for number, action in enumerate(actions):
        state = inputs + number
        before = runs.get(action.input)
        alone = users[action.input] == 1 and before is not None and before.actions[-1].output == NO_OUTPUT
        if before is not None and alone:
            del runs[action.input]
            runs[state] = Run(before.base, (*before.actions, action), state)
        else:
            runs[state] = Run(action.input, (action,), state)
    return tuple(runs[state] for state in sorted(runs))


def _check(actions: Sequence[FileAction], inputs: int) -> None:
    for number, action in enumerate(actions):
        for index in (action.input, *_read(action)):
            if not NO_INPUT <= index < inputs + number:
                raise InvalidArgumentError(f"invalid index {index} in action {number} of a file operation")
    outputs = sorted(action.output for action in actions if action.output != NO_OUTPUT)
    if outputs != list(range(len(outputs))) or not outputs:
        raise InvalidArgumentError(f"invalid outputs {outputs} of a file operation")


def _read(action: FileAction) -> tuple[int, ...]:
    """Return what an action reads besides what it changes."""
    owner = None if isinstance(action.action, Remove) else action.action.owner
    names = [] if owner is None else [each for each in (owner.user, owner.group) if each is not None]
    looked_up = [each.input for each in names if each.number is None]
    return (*([action.secondary_input] if isinstance(action.action, Copy) else []), *looked_up)
