"""Which stages a Dockerfile has, and what each of them is made of: other stages, and images that files are taken from.

Reference: the Dockerfile reference, "FROM", "COPY --from", "RUN --mount=type=bind".
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from buildd.frontend.stages import SCRATCH, Stage
from buildd.frontend.state import StageState
from buildd.frontend.step import Trace
from sampan.dockerfile.instructions import Instruction, Run, Transfer
from sampan.dockerfile.source import DockerfileError, Lines
from sampan.dockerfile.words import did_you_mean
from sampan.errors import InvalidArgumentError
from sampan.oci.reference import Reference, parse_reference

_COMMON_IMAGES: Final = ("alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora")


class UnknownTargetError(InvalidArgumentError):
    """There is no stage of the name that is to be built."""


@dataclass(slots=True, eq=False)
class Unit:
    """A stage while it becomes a graph, or an image that only files are taken from."""

    stage: Stage
    only_copied: bool = False
    base: "Unit | None" = None
    context: str = ""  # the named context that stands in for it, or for its base
    instructions: list[tuple[Instruction, bool]] = field(default_factory=list)  # with: is a trigger of the base
    state: StageState | None = None
    paths: set[str] = field(default_factory=set)  # that others take from it
    trace: Trace = field(default_factory=Trace)
    triggers_known: bool = False
    dispatched: bool = False
    replaced: bool = False  # a named context stands in for the whole stage


class StageGraph:
    """The stages of one Dockerfile, in its order, and the images that they name beside them."""

    def __init__(self, units: Iterable[Unit]) -> None:
        """Join each stage with the earlier one that it begins from."""
        self.units: list[Unit] = []
        self.images: dict[str, Unit] = {}
        self.alone = False  # one stage is all: its steps are shown without its name
        for unit in units:
            if not unit.replaced:
                earlier = [each for each in self.units if each.stage.name == unit.stage.base.lower()]
                unit.base = earlier[-1] if earlier else None
            self.units.append(unit)

    def target(self, name: str) -> Unit:
        """Return the stage to build, by name or number; without a name the last one.

        Raises:
            UnknownTargetError: there is none of that name.
        """
        if not name:
            return self.units[-1]
        found = self.find(name)
        if found is None and name.isascii() and name.isdigit() and int(name) < len(self.units):
            found = self.units[int(name)]
        if found is None:
            hint = did_you_mean(name, (unit.stage.label for unit in self.units))
            raise UnknownTargetError(f'target stage "{name}" could not be found{hint}')
        return found

    def find(self, name: str) -> Unit | None:
        """Return a stage by name; of two with one name the later one."""
        return next((unit for unit in reversed(self.units) if unit.stage.name == name.lower() != ""), None)

    def hint(self, image: str) -> str:
        """Return what is added to an error about an image that is not there: it may be a slip of a stage's name."""
        return did_you_mean(image, (*(unit.stage.name for unit in self.units if unit.stage.name), *_COMMON_IMAGES))

    def link(self, unit: Unit) -> None:
        """Find what the instructions of a stage take files from, images among them. Raises DockerfileError."""
        for instruction, _ in unit.instructions:
            for name in _names(instruction):
                self.source_of(name, instruction)

    def settle(self) -> None:
        """Take the stages as they are when all are linked; the triggers of bases may still link more.

        Raises:
            DockerfileError: stages need themselves, or a base can be no name, be it needed or not.
        """
        self.check_circles()
        for unit in (*self.units, *self.images.values()):
            if unit.base is None and (unit.replaced or unit.stage.base != SCRATCH):
                base_reference(unit.stage)
        # A mount of no stage is of an empty one, whatever its type: for clients that is one more.
        empty = any(_has_empty_mount(instruction) for unit in self.units for instruction, _ in unit.instructions)
        self.alone = len(self.units) == 1 and not self.images and not empty

    def source_of(self, name: str, instruction: Instruction) -> Unit:
        """Return what ``--from`` or ``from=`` names. Raises DockerfileError."""
        lines = instruction.lines
        if isinstance(instruction, Transfer):
            if "$" in name:
                raise DockerfileError(
                    "variable expansion is not supported for --from, define a new stage with FROM using ARG from "
                    "global scope as a workaround",
                    lines,
                )
            if name.lstrip("-").isascii() and name.lstrip("-").isdigit():
                if not name.isdigit() or int(name) >= len(self.units):
                    raise DockerfileError(f"invalid stage index {name}", lines)
                return self.units[int(name)]
        found = self.find(name)
        if found is not None:
            return found
        if name not in self.images:
            stage = Stage(-1, "", name, None, lines, ())
            self.images[name] = Unit(stage, only_copied=True)
        return self.images[name]

    def needs(self, unit: Unit) -> Iterator[Unit]:
        """Yield what a stage is made of, directly."""
        if unit.base is not None:
            yield unit.base
        yield from (other for other, _ in self._sources(unit))

    def check_circles(self) -> None:
        """Refuse stages that take files from each other. Raises DockerfileError.

        A stage that a later one begins from may still name that one: this is refused when it is converted.
        """
        done: set[Unit] = set()
        for start in self.units:
            path: dict[Unit, Iterator[tuple[Unit, Lines]]] = {}
            if start not in done:
                path[start] = self._sources(start)
            places: list[Lines] = []  # where all of the path but its first are named
            while path:
                unit = next(reversed(path))
                following = next(path[unit], None)
                if following is None:
                    done.add(unit)
                    del path[unit]
                    del places[-1:]
                elif following[0] in path:
                    words = f"circular dependency detected on stage: {start.stage.label}"
                    raise DockerfileError(words, following[1], places)
                elif following[0] not in done:
                    path[following[0]] = self._sources(following[0])
                    places.append(following[1])

    def _sources(self, unit: Unit) -> Iterator[tuple[Unit, Lines]]:
        """Return what files are taken from, and where that is said last."""
        named = ((name, each) for each, _ in unit.instructions for name in _names(each))
        return iter({self.source_of(name, each): each.lines for name, each in named}.items())

    def reachable(self, target: Unit, *, all_stages: bool) -> list[Unit]:
        """Return all that ``target`` is made of, itself among them."""
        found: dict[Unit, None] = {}
        waiting = [target, *(self.units if all_stages else ())]
        while waiting:
            unit = waiting.pop()
            if unit not in found:
                found[unit] = None
                waiting += self.needs(unit)
        return list(found)


def base_reference(stage: Stage) -> Reference:
    """Return the image that a stage begins from. Raises DockerfileError: its name is none."""
    try:
        return parse_reference(stage.base).with_default_tag()
    except InvalidArgumentError as error:
        why = str(error).removesuffix(f" ({stage.base!r})")
        raise DockerfileError(f'failed to parse stage name "{stage.base}": {why}', stage.lines) from error


def _has_empty_mount(instruction: Instruction) -> bool:
    return isinstance(instruction, Run) and any(not mount.from_stage for mount in instruction.mounts)


def _names(instruction: Instruction) -> Iterator[str]:
    """Yield what an instruction names as a source: stages, images and named contexts alike."""
    if isinstance(instruction, Transfer) and instruction.from_stage:
        yield instruction.from_stage
    elif isinstance(instruction, Run):
        yield from (mount.from_stage for mount in instruction.mounts if mount.from_stage)
