"""A Dockerfile as a graph of operations, for one platform: which stages are needed, and their instructions in order."""

import asyncio
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from buildd.frontend.checks import INVALID_BASE_PLATFORM, Checks
from buildd.frontend.configuring import configure
from buildd.frontend.contexts import Contexts, NamedContext, pinned
from buildd.frontend.options import PROXY_NAMES, Options, normalized, parse_epoch
from buildd.frontend.run import run
from buildd.frontend.stage_graph import StageGraph, Unit, base_reference
from buildd.frontend.stages import (
    SCRATCH,
    GlobalArguments,
    Stage,
    automatic_arguments,
    check_text,
    global_arguments,
    parse_stages,
    split,
)
from buildd.frontend.state import StageState
from buildd.frontend.step import Build, Progress, Step
from buildd.frontend.transfer import transfer, work_directory
from buildd.llb.graph import image, substitute
from buildd.llb.ops import Edge, Metadata, Node
from buildd.protocol import Bridge, ImageQuery
from sampan.build.plan import PlannedStep
from sampan.build.progress import Position
from sampan.cancellation import together
from sampan.docker.booleans import SPELLINGS
from sampan.dockerfile.ignore import IgnorePatterns
from sampan.dockerfile.instructions import (
    Arg,
    Instruction,
    OnBuild,
    Run,
    Transfer,
    Words,
    parse_instruction,
    trigger_statement,
)
from sampan.dockerfile.mounts import RunMount
from sampan.dockerfile.source import DockerfileError, Source
from sampan.errors import InvalidArgumentError, SampanError
from sampan.oci.config_document import parse_config
from sampan.oci.digest import Digest
from sampan.oci.image_config import ConfigFile
from sampan.oci.platform import Platform

_INSTRUCTIONS_AT_ONCE: Final = 100
_SCAN_CONTEXT: Final = "BUILDKIT_SBOM_SCAN_CONTEXT"
_SCAN_STAGE: Final = "BUILDKIT_SBOM_SCAN_STAGE"
_FILE_INSTRUCTIONS: Final = frozenset(("ADD", "COPY", "RUN", "WORKDIR"))


@dataclass(frozen=True, slots=True)
class Converted:
    """The image that a target is."""

    edge: Edge | None
    config: ConfigFile
    base_config: bytes
    target: Unit
    epoch_s: int | None
    arguments: GlobalArguments
    extras: Mapping[str, Edge]  # what a generator of bills of materials is to look at, too


class Conversion:
    """Makes the graph of one target for one platform."""

    def __init__(
        self,
        source: Source,
        instructions: Sequence[Instruction],
        options: Options,
        contexts: Contexts,
        bridge: Bridge,
        checks: Checks,
        platform: Platform | None,
    ) -> None:
        """``platform`` None is the builder's own one, unless an image for another one is all that there is."""
        self._source = source
        self._instructions = instructions
        self._options = options
        self._contexts = contexts
        self._bridge = bridge
        self._checks = checks
        self._implicit = platform is None
        self.platform = platform or options.build_platform
        self._graph = StageGraph(())
        self._placeholders: dict[Node, tuple[NamedContext, str, Unit]] = {}
        self.plan: list[PlannedStep] = []  # of what was converted

    async def convert(self, *, all_stages: bool = False) -> Converted:
        """Return the target's graph; with ``all_stages`` every stage is gone through, for checks.

        Raises:
            DockerfileError: with the lines that are to blame.
            InvalidArgumentError: no such target, or a context or a pattern that cannot be.
            NotFoundError: an image that is not there.
        """
        escape = self._source.escape
        arguments, starts = split(self._instructions)
        stage_name = self._options.target or starts[-1][0].name
        automatic = automatic_arguments(
            self._options.build_platform, self.platform, stage_name, self._options.build_args
        )
        check_text(self._source, self._instructions, automatic, self._checks)
        values = global_arguments(arguments, automatic, self._options.build_args, escape)
        epoch_s = parse_epoch(
            self._options.build_args.get("SOURCE_DATE_EPOCH", values.values.get("SOURCE_DATE_EPOCH", ""))
        )
        graph = StageGraph(self._units(parse_stages(self._instructions, values, escape, self._checks)))
        self._graph = graph
        target = graph.target(self._options.target)
        for unit in graph.units:
            graph.link(unit)
        graph.settle()
        needed = await self._resolve(target, all_stages=all_stages)
        patterns = await self._contexts.load_ignore()
        build = Build(
            self._options,
            escape,
            values.values,
            self._contexts.main,
            IgnorePatterns(patterns) if patterns else None,
            epoch_s,
        )
        self.plan = [PlannedStep(each.statement.original) for each in arguments]
        for unit in sorted(needed, key=lambda each: each.stage.index):
            await self._dispatch(unit, build)
        self._checks.raise_if_asked()
        assert target.state is not None
        beside = dict(self._extras(target, needed, build))
        edge, extras = await self._complete(target, needed, beside)
        config = target.state.finished(self._final_platform(target.state), self._options.labels)
        return Converted(edge, config, target.state.base_bytes, target, epoch_s, values, extras)

    def unused_arguments(self) -> tuple[str, ...]:
        """Return the build arguments that no ARG names, up to the end of the target's stage; proxies need none."""
        _, starts = split(self._instructions)
        _, _, end = starts[self._graph.target(self._options.target).stage.index]
        triggers = (each for unit in self._graph.units for each, trigger in unit.instructions if trigger)
        arguments = (each for each in (*self._instructions[:end], *triggers) if isinstance(each, Arg))
        named = {name for each in arguments for name, _ in each.arguments}
        return tuple(
            sorted(each for each in self._options.build_args if each not in named and each.lower() not in PROXY_NAMES)
        )

    def _extras(self, target: Unit, needed: Sequence[Unit], build: Build) -> Iterator[tuple[str, Edge]]:
        """Yield what arguments say that is to be looked at beside the target."""
        if _is_scanned(target, _SCAN_CONTEXT, build):
            yield "context", build.main_context
        for unit in needed:
            wanted = unit is not target and not unit.only_copied and _is_scanned(unit, _SCAN_STAGE, build)
            if wanted and unit.state is not None and unit.state.edge is not None:
                unit.paths.add("/")
                yield unit.stage.label, unit.state.edge

    def _units(self, stages: Iterable[Stage]) -> Iterator[Unit]:
        """Yield the stages; a named context takes the place of one that has its name."""
        for stage in stages:
            unit = Unit(stage, instructions=[(each, False) for each in stage.instructions])
            if stage.name:
                unit.context = self._contexts.has(stage.name, stage.platform or self.platform)
            if unit.context:
                unit.instructions.clear()
                unit.replaced = True
            yield unit

    # Base images.

    async def _resolve(self, target: Unit, *, all_stages: bool) -> list[Unit]:
        """Find the base images of all needed stages. Their triggers may need further stages."""
        while True:
            needed = self._graph.reachable(target, all_stages=all_stages)
            await together(self._resolve_base(unit) for unit in needed if unit.base is None and unit.state is None)
            fresh = [unit for unit in needed if not unit.triggers_known]
            if not fresh:
                return needed
            for unit in fresh:
                unit.triggers_known = True
                self._add_triggers(unit)

    async def _resolve_base(self, unit: Unit) -> None:
        try:
            await self._load_base(unit)
        except DockerfileError:
            raise
        except SampanError as error:
            hint = ""
            if not unit.context:
                hint = self._graph.hint(unit.stage.base)
            raise DockerfileError(f"{unit.stage.base}: {error}{hint}", unit.stage.lines) from error

    async def _load_base(self, unit: Unit) -> None:
        platform = unit.stage.platform or self.platform
        if not unit.replaced:
            if unit.stage.base == SCRATCH:
                unit.state = StageState.of_image(None, b"", None, self.platform)
                return
            reference = base_reference(unit.stage)
            unit.context = self._contexts.has(str(reference), platform)
        if unit.context:
            context = await self._contexts.load(unit.context, platform)
            if unit.replaced and context.config is not None:
                platform = normalized(context.config.platform)
            unit.state = StageState.of_image(context.config, context.config_bytes, context.edge, platform)
            if context.edge is not None and context.directory is not None:
                self._placeholders[context.edge.node] = (context, unit.context, unit)
            return
        await self._load_image(unit, str(reference), platform)

    async def _load_image(self, unit: Unit, reference: str, platform: Platform) -> None:
        several = self._options.multi_platform
        shown = f"{platform} " if several else ""
        mode = self._options.resolve_mode
        query = ImageQuery(reference, platform, mode, f"[{shown}internal] load metadata for {reference}")
        found = await self._bridge.resolve_config(query)
        config = parse_config(found.config, unit.stage.base)
        theirs = normalized(config.platform)
        if unit.stage.platform is None and self._implicit:
            platform = next(
                (each for each in (platform, *self._bridge.platforms) if _same_machine(theirs, each)), platform
            )
        name = pinned(found.reference, found.digest)
        edge = None
        if config.diff_ids or any(not step.empty_layer for step in config.history):
            text = self._progress(unit, platform).label(f"FROM {name}")
            said = Metadata(text, positions=(Position(unit.stage.lines.first, unit.stage.lines.last),))
            edge = image(name, platform, mode, said)
        if not _same_machine(theirs, platform):
            self._checks.beside(unit.stage.comments).report(
                INVALID_BASE_PLATFORM,
                f'Base image {unit.stage.base} was pulled with platform "{theirs}", expected "{platform}" for current '
                "build",
                unit.stage.lines,
            )
        unit.state = StageState.of_image(config, found.config, edge, platform)

    def _add_triggers(self, unit: Unit) -> None:
        """Put the ONBUILD instructions of the base in front of the stage's own."""
        if unit.only_copied or unit.replaced:
            return
        if unit.base is not None:
            triggers = [each.trigger for each, _ in unit.base.instructions if isinstance(each, OnBuild)]
        else:
            base = unit.state.base if unit.state else None
            triggers = list(base.run.on_build) if base else []
        lines = unit.stage.lines
        parsed = [parse_instruction(trigger_statement(trigger, lines)) for trigger in triggers]
        unit.instructions[:0] = [(instruction, True) for instruction in parsed]
        self._graph.link(unit)
        if parsed:
            self._graph.check_circles()

    # Instructions.

    def _progress(self, unit: Unit, platform: Platform) -> Progress:
        total = 0
        if not unit.only_copied:
            total = sum(each.statement.keyword in _FILE_INSTRUCTIONS for each, _ in unit.instructions)
            total += unit.base is None and unit.stage.base != SCRATCH
        shown = platform if self._options.multi_platform else None
        return Progress("" if self._graph.alone else unit.stage.label, shown, total)

    async def _dispatch(self, unit: Unit, build: Build) -> None:
        """Apply the instructions of a stage. The stages that it needs come earlier in the file, and are done."""
        unit.dispatched = True
        if unit.base is not None:
            assert unit.base.state is not None
            unit.state = unit.base.state.fork()
            unit.base.paths.add("/")
        state = unit.state
        assert state is not None
        state.epoch_s = build.epoch_s
        if unit.only_copied or unit.replaced:
            return
        progress = self._progress(unit, state.platform)
        if unit.base is None and state.edge is not None and not unit.context:
            progress.done = 1
        self._plan_base(unit, progress)
        ignore_cache = self._options.ignores_cache(unit.stage.name)
        for number, (instruction, trigger) in enumerate(unit.instructions):
            if number % _INSTRUCTIONS_AT_ONCE == 0:
                await asyncio.sleep(0)  # others have their turn
            checks = self._checks.beside(instruction.statement.comments)
            step = Step(build, state, instruction, progress, unit.trace, checks, ignore_cache, trigger)
            before = progress.done
            try:
                self._apply(unit, step)
            except DockerfileError:
                raise
            except InvalidArgumentError as error:
                raise step.fail(str(error)) from error
            place = progress.place(state.env) if progress.done > before else ""
            self.plan.append(PlannedStep(instruction.statement.original, place, trigger=trigger))

    def _plan_base(self, unit: Unit, progress: Progress) -> None:
        of_image = unit.base is None and unit.state is not None and bool(unit.state.base_bytes)
        image_id = str(Digest.of(unit.state.base_bytes)) if of_image and unit.state else ""
        self.plan.append(PlannedStep(unit.stage.written, progress.place() if progress.done else "", image_id))

    def _apply(self, unit: Unit, step: Step) -> None:
        instruction = step.instruction
        if configure(step):
            return
        if isinstance(instruction, Run):
            sources = tuple(self._mounted(step, mount) if mount.from_stage else None for mount in instruction.mounts)
            run(step, instruction, sources)
        elif isinstance(instruction, Transfer):
            context = step.build.main_context
            transfer(step, instruction, self._copied(unit, step, instruction) if instruction.from_stage else context)
        elif isinstance(instruction, Words):
            work_directory(step, instruction)
        else:
            raise AssertionError(f"no instruction is a {type(instruction).__name__}")

    def _copied(self, unit: Unit, step: Step, instruction: Transfer) -> Edge | None:
        name, current = instruction.from_stage, unit.stage.label
        words = f'cannot copy from stage "{name}", it needs to be defined before current stage "{current}"'
        return self._files(step, name, tuple(step.expand(each) for each in instruction.sources), words)

    def _mounted(self, step: Step, mount: RunMount) -> Edge | None:
        words = (
            f'cannot mount from stage "{mount.from_stage}" to "{step.expand(mount.target)}", stage needs to be '
            "defined before current command"
        )
        return self._files(step, mount.from_stage, (step.expand(mount.source),), words)

    def _files(self, step: Step, name: str, paths: Sequence[str], too_late: str) -> Edge | None:
        """Return what files are taken from. DockerfileError: a stage that is not made yet, ``too_late``."""
        other = self._graph.source_of(name, step.instruction)
        if not other.dispatched or other.state is None:
            raise step.fail(too_late)
        other.paths.update(posixpath.normpath(f"/{path.strip('/')}") for path in paths)
        return other.state.edge

    # The result.

    async def _complete(
        self, target: Unit, needed: Sequence[Unit], extras: Mapping[str, Edge]
    ) -> tuple[Edge | None, Mapping[str, Edge]]:
        """Put the client's directories, of which the paths are known now, in the place of their placeholders."""
        assert target.state is not None
        target.paths.add("/")
        paths = {path for unit in needed for path in unit.trace.context_paths}
        replacements: dict[Node, Edge] = {}
        final = await self._contexts.final_main(paths)
        if final is not self._contexts.main:
            replacements[self._contexts.main.node] = final
        for node, (context, name, unit) in self._placeholders.items():
            assert context.directory is not None
            wanted = unit.paths if unit.only_copied or unit.replaced else {"/"}
            replacements[node] = self._contexts.final_named(context.directory, name, wanted)
        replaced = {name: substitute(each, replacements) for name, each in extras.items()}
        there = {name: each for name, each in replaced.items() if each is not None}
        return substitute(target.state.edge, replacements), there

    def _final_platform(self, state: StageState) -> Platform:
        if self._implicit and state.base is not None:
            return normalized(state.base.platform)
        return self.platform

    def needs(self, unit: Unit) -> list[Unit]:
        """Return what a stage is made of, directly."""
        return list(self._graph.needs(unit))


def _is_scanned(unit: Unit, name: str, build: Build) -> bool:
    """Say whether an argument, true or a list of stages, is about a stage."""
    value = build.global_arguments.get(name)
    if unit.state is not None and unit.state.arguments.get(name) is not None:
        value = unit.state.arguments[name]
    if not value:
        return False
    return SPELLINGS.get(value, unit.stage.name in value.split(",") and bool(unit.stage.name))


def _same_machine(one: Platform, other: Platform) -> bool:
    return (one.os, one.architecture) == (other.os, other.architecture)
