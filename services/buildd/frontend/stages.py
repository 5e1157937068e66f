"""A Dockerfile's stages: their names and bases, and the arguments that stand before the first of them.

Reference: the Dockerfile reference, "FROM", "Understand how ARG and FROM interact", "Automatic platform ARGs".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from buildd.frontend.checks import (
    CONSISTENT_CASING,
    CONSTANT_PLATFORM,
    DUPLICATE_STAGE_NAME,
    FROM_AS_CASING,
    INVALID_DEFAULT_ARG,
    INVALID_DESCRIPTION,
    MAINTAINER_DEPRECATED,
    NO_EMPTY_CONTINUATION,
    REDUNDANT_TARGET_PLATFORM,
    RESERVED_STAGE_NAME,
    STAGE_NAME_CASING,
    UNDEFINED_ARG_IN_FROM,
    Checks,
    description,
)
from buildd.frontend.options import normalized
from buildd.frontend.state import Argument
from sampan.dockerfile.expansion import Expander
from sampan.dockerfile.instructions import Arg, From, Instruction
from sampan.dockerfile.source import DockerfileError, Lines, Source
from sampan.dockerfile.words import did_you_mean
from sampan.errors import InvalidArgumentError
from sampan.oci.platform import Platform, parse_platform
from sampan.oci.reference import parse_reference

SCRATCH = "scratch"
RESERVED = ("context", SCRATCH)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage as it is written, with the variables of its FROM put in."""

    index: int
    name: str  # lower case; empty if it has none
    base: str  # an image, a stage's name, or "scratch"
    platform: Platform | None  # that FROM asks for
    lines: Lines
    instructions: tuple[Instruction, ...]
    used_arguments: frozenset[str] = frozenset()  # in FROM
    comments: tuple[str, ...] = ()
    written: str = ""  # its FROM, on one line

    @property
    def label(self) -> str:
        """How progress calls it."""
        return self.name or f"stage-{self.index}"

    @property
    def description(self) -> str:
        """What the comment above it says."""
        return description(self.comments, self.name)


@dataclass(frozen=True, slots=True)
class GlobalArguments:
    """The automatic arguments, and those of the ARGs before the first FROM."""

    values: Mapping[str, str]
    outline: Mapping[str, Argument] = field(default_factory=dict)
    depends: Mapping[str, frozenset[str]] = field(default_factory=dict)  # on others, by their defaults
    declared: frozenset[str] = frozenset()

    def used_with(self, names: frozenset[str]) -> frozenset[str]:
        """Return ``names`` and all that their defaults are made of."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting += self.depends.get(name, ())
        return frozenset(found)


def automatic_arguments(
    build: Platform, target: Platform, stage: str, build_args: Mapping[str, str]
) -> Mapping[str, str]:
    """Return the arguments that are there without being declared. ``stage`` is the target's name."""
    arguments: dict[str, str] = {}
    for prefix, platform in (("BUILD", build), ("TARGET", target)):
        arguments |= {
            f"{prefix}PLATFORM": str(platform),
            f"{prefix}OS": platform.os,
            f"{prefix}OSVERSION": "",
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }
    arguments["TARGETSTAGE"] = stage or "default"
    return {name: build_args.get(name, value) for name, value in arguments.items()}


def split(instructions: Sequence[Instruction]) -> tuple[tuple[Arg, ...], tuple[tuple[From, int, int], ...]]:
    """Return the ARGs before the first FROM, and every FROM with the range of its stage's instructions.

    Raises:
        DockerfileError: another instruction before the first FROM, or no FROM.
    """
    starts = [index for index, each in enumerate(instructions) if isinstance(each, From)]
    first = starts[0] if starts else len(instructions)
    arguments = []
    for each in instructions[:first]:
        if not isinstance(each, Arg):
            raise DockerfileError("no build stage in current context", each.lines)
        arguments.append(each)
    if not starts:
        raise DockerfileError("dockerfile contains no stages to build")
    ends = [*starts[1:], len(instructions)]
    found = []
    for begin, end in zip(starts, ends, strict=True):
        start = instructions[begin]
        assert isinstance(start, From)
        found.append((start, begin + 1, end))
    return tuple(arguments), tuple(found)


def global_arguments(
    arguments: Sequence[Arg], automatic: Mapping[str, str], build_args: Mapping[str, str], escape: str
) -> GlobalArguments:
    """Evaluate the ARGs before the first FROM. Raises DockerfileError."""
    values = dict(automatic)
    outline: dict[str, Argument] = {}
    depends: dict[str, frozenset[str]] = {}
    for arg in arguments:
        for name, default in arg.arguments:
            value, used = build_args.get(name), frozenset[str]()
            if value is None and default is not None:
                expander = Expander(values, escape)
                value = _expand(expander, default, arg.lines)
                used = frozenset(expander.used) - expander.unset
            if name in used:
                used = (used | depends.get(name, frozenset())) - {name}
            depends[name] = used
            if value is not None:
                values[name] = value
            outline[name] = Argument(name, value or "", arg.lines, description(arg.statement.comments, name))
    return GlobalArguments(values, outline, depends, frozenset(outline) | frozenset(automatic))


def parse_stages(
    instructions: Sequence[Instruction], arguments: GlobalArguments, escape: str, checks: Checks
) -> tuple[Stage, ...]:
    """Sort instructions into stages and put variables into their FROMs.

    Raises:
        DockerfileError: a base name that is empty, a platform that cannot be.
    """
    _, starts = split(instructions)
    return tuple(
        _stage(index, start, tuple(instructions[begin:end]), arguments, escape, checks)
        for index, (start, begin, end) in enumerate(starts)
    )


def _stage(
    index: int,
    start: From,
    instructions: tuple[Instruction, ...],
    arguments: GlobalArguments,
    escape: str,
    checks: Checks,
) -> Stage:
    checks = checks.beside(start.statement.comments)
    expander = Expander(arguments.values, escape)
    base = _expand(expander, start.image, start.lines)
    _check_declared(expander, arguments, start, checks)
    if not base:
        raise DockerfileError(f"base name ({start.image}) should not be blank", start.lines)
    used = expander.used
    platform = None
    if start.platform:
        expander = Expander(arguments.values, escape)
        platform = _platform(start, expander, arguments, checks)
        used = used | expander.used
    return Stage(
        index,
        start.name,
        base,
        platform,
        start.lines,
        instructions,
        frozenset(used),
        start.statement.comments,
        start.statement.original,
    )


def _platform(start: From, expander: Expander, arguments: GlobalArguments, checks: Checks) -> Platform:
    text = _expand(expander, start.platform, start.lines)
    _check_declared(expander, arguments, start, checks)
    hint = "".join(did_you_mean(name, arguments.values) for name in sorted(expander.unset)[:1])
    if not text:
        raise DockerfileError(f"empty platform value from expression {start.platform}{hint}", start.lines)
    try:
        platform = parse_platform(text)
    except InvalidArgumentError as error:
        raise DockerfileError(f"failed to parse platform {start.platform}: {error}{hint}", start.lines) from error
    if expander.used == {"TARGETPLATFORM"} and text == arguments.values["TARGETPLATFORM"]:
        checks.report(
            REDUNDANT_TARGET_PLATFORM,
            f"Setting platform to predefined {start.platform} in FROM is redundant as this is the default behavior",
            start.lines,
        )
    if not expander.used and platform.os not in start.name and platform.architecture not in start.name:
        message = f'FROM --platform flag should not use constant value "{text}"'
        checks.report(CONSTANT_PLATFORM, message, start.lines)
    return normalized(platform)


def _check_declared(expander: Expander, arguments: GlobalArguments, start: From, checks: Checks) -> None:
    for name in sorted(expander.unset - arguments.declared):
        hint = did_you_mean(name, arguments.declared)
        checks.report(UNDEFINED_ARG_IN_FROM, f"FROM argument '{name}' is not declared{hint}", start.lines)


def _expand(expander: Expander, text: str, lines: Lines) -> str:
    try:
        return expander.expand(text)
    except InvalidArgumentError as error:
        raise DockerfileError(str(error), lines) from error


def check_text(
    source: Source, instructions: Sequence[Instruction], automatic: Mapping[str, str], checks: Checks
) -> None:
    """Report what can be said of a Dockerfile without building it."""
    arguments, starts = split(instructions)
    for line in source.empty_continuations:
        checks.report(NO_EMPTY_CONTINUATION, "Empty continuation line", Lines(line, line))
    names: set[str] = set()
    for start, _, _ in starts:
        _check_name(start, names, checks.beside(start.statement.comments))
    for each in instructions:
        beside = checks.beside(each.statement.comments)
        if each.statement.keyword == "MAINTAINER":
            beside.report(
                MAINTAINER_DEPRECATED, "Maintainer instruction is deprecated in favor of using label", each.lines
            )
        _check_description(each, beside)
    _check_casing(instructions, checks)
    _check_defaults(arguments, starts, automatic, source.escape, checks)


def _check_name(start: From, names: set[str], checks: Checks) -> None:
    if not start.name:
        return
    if start.written_name != start.name:
        checks.report(STAGE_NAME_CASING, f"Stage name '{start.written_name}' should be lowercase", start.lines)
    written = start.statement.written
    matches = {written.lower(): "as", written.upper(): "AS"}.get(written)
    if matches is not None and start.written_as != matches:
        checks.report(
            FROM_AS_CASING, f"'{start.written_as}' and '{written}' keywords' casing do not match", start.lines
        )
    if start.name in RESERVED:
        message = f'Stage name should not use the same name as reserved stage "{start.name}"'
        checks.report(RESERVED_STAGE_NAME, message, start.lines)
    if start.name in names:
        message = f'Duplicate stage name "{start.name}", stage names should be unique'
        checks.report(DUPLICATE_STAGE_NAME, message, start.lines)
    names.add(start.name)


def _check_description(each: Instruction, checks: Checks) -> None:
    comments = [comment for comment in each.statement.comments if not comment.startswith("check=")]
    names = [name for name, _ in each.arguments] if isinstance(each, Arg) else []
    names = [each.name] if isinstance(each, From) and each.name else names
    if names and comments and comments[-1].partition(" ")[0] not in names:
        example = names[0] if len(names) == 1 else "<arg_key>"
        keyword = "FROM" if isinstance(each, From) else "ARG"
        checks.report(
            INVALID_DESCRIPTION,
            f"Comment for {keyword} should follow the format: `# {example} <description>`",
            each.lines,
        )


def _check_casing(instructions: Sequence[Instruction], checks: Checks) -> None:
    first = next(index for index, each in enumerate(instructions) if isinstance(each, From))
    in_stages = instructions[first:]
    words = [each.statement.written for each in in_stages]
    lower = sum(word == word.lower() for word in words) > sum(word == word.upper() for word in words)
    for each in in_stages:
        word = each.statement.written
        if word != (word.lower() if lower else word.upper()):
            majority = "lowercase" if lower else "uppercase"
            checks.beside(each.statement.comments).report(
                CONSISTENT_CASING,
                f"Command '{word}' should match the case of the command majority ({majority})",
                each.lines,
            )


def _check_defaults(
    arguments: Sequence[Arg],
    starts: Sequence[tuple[From, int, int]],
    automatic: Mapping[str, str],
    escape: str,
    checks: Checks,
) -> None:
    """Check that bases are names also if nobody gives any arguments."""
    try:
        values = global_arguments(arguments, automatic, {}, escape).values
        for start, _, _ in starts:
            try:
                base = Expander(values, escape).expand(start.image)
                if base != SCRATCH:
                    parse_reference(base)
            except InvalidArgumentError:
                message = f"Default value for ARG {start.image} results in empty or invalid base image name"
                checks.beside(start.statement.comments).report(INVALID_DEFAULT_ARG, message, start.lines)
    except DockerfileError:
        return  # it fails with the build's own arguments, too
