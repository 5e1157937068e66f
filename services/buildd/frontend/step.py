"""One instruction while it is applied: its variables, its place in progress, its checks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from buildd.frontend.checks import UNDEFINED_VAR, Checks, Rule
from buildd.frontend.options import Options
from buildd.frontend.state import StageState
from buildd.llb.ops import Edge, Metadata
from sampan.build.progress import Position, ProgressGroup
from sampan.dockerfile.expansion import Expander
from sampan.dockerfile.instructions import Instruction
from sampan.dockerfile.source import DockerfileError, Lines
from sampan.dockerfile.words import did_you_mean
from sampan.errors import InvalidArgumentError
from sampan.oci.platform import Platform

if TYPE_CHECKING:
    from sampan.dockerfile.ignore import IgnorePatterns


@dataclass(frozen=True, slots=True)
class Build:
    """What the instructions of one Dockerfile share, for one platform."""

    options: Options
    escape: str
    global_arguments: Mapping[str, str]  # before the first FROM, and the automatic ones
    main_context: Edge
    ignore: "IgnorePatterns | None"  # of the main context
    epoch_s: int | None = None


@dataclass(frozen=True, slots=True)
class Mention:
    """A secret or an SSH agent that a RUN mounts, for an outline."""

    lines: Lines
    required: bool = False


@dataclass(slots=True)
class Trace:
    """What a stage has used."""

    context_paths: set[str] = field(default_factory=set)  # of the main context
    secrets: dict[str, Mention] = field(default_factory=dict)
    agents: dict[str, Mention] = field(default_factory=dict)
    caches: dict[str, Mention] = field(default_factory=dict)


@dataclass(slots=True)
class Progress:
    """How progress counts the steps of a stage."""

    stage: str  # empty: it is the only one
    platform: Platform | None  # shown if several are built
    total: int
    done: int = 0

    def label(self, text: str, *, trigger: bool = False, env: Mapping[str, str] | None = None) -> str:
        """Return ``[stage 2/5] RUN make`` and count the step."""
        if not self.total:
            return text
        self.done += 1
        return f"[{self.place(env)}] {'ONBUILD ' if trigger else ''}{text}"

    def place(self, env: Mapping[str, str] | None = None) -> str:
        """Return where the last step is that was counted: ``stage 2/5``."""
        platform = "" if self.platform is None else f"{self.platform}{_cross(self.platform, env or {})}"
        number = f"{self.done:>{len(str(self.total))}}/{self.total}"
        return " ".join(filter(None, (platform, self.stage, number)))


def _cross(platform: Platform, env: Mapping[str, str]) -> str:
    """Return ``->arm64`` where a stage of one platform compiles for another one."""
    parts = env.get("TARGETPLATFORM", "").split("/")
    system = env.get("TARGETOS", "") or (parts[0] if len(parts) > 1 else "") or platform.os
    architecture = env.get("TARGETARCH", "") or (parts[1] if len(parts) > 1 else "") or platform.architecture
    variant = env.get("TARGETVARIANT", "") or (parts[2] if len(parts) > 2 else "")
    if system != platform.os:
        return f"->{Platform(system, architecture, variant)}"
    if architecture != platform.architecture:
        return f"->{'/'.join(filter(None, (architecture, variant)))}"
    return ""


@dataclass(slots=True)
class Step:
    """One instruction of one stage."""

    build: Build
    state: StageState
    instruction: Instruction
    progress: Progress
    trace: Trace
    checks: Checks
    ignore_cache: bool = False
    trigger: bool = False  # an ONBUILD of the base

    @property
    def lines(self) -> Lines:
        """Where the instruction stands."""
        return self.instruction.lines

    @property
    def keyword(self) -> str:
        """The instruction's name, upper case."""
        return self.instruction.statement.keyword

    def fail(self, message: str) -> DockerfileError:
        """Return an error about the instruction."""
        return DockerfileError(message, self.lines)

    def report(self, rule: Rule, message: str) -> None:
        """Note what a check has found in the instruction."""
        self.checks.report(rule, message, self.lines)

    def expand(self, word: str, *, document: bool = False) -> str:
        """Put variables into a word, or with ``document`` into the content of a here-document.

        Raises:
            DockerfileError: it cannot be expanded.
        """
        escape = "\\" if document else self.build.escape
        expander = Expander(self.state.env, escape, keep_quotes=document)
        try:
            expanded = expander.expand(word)
        except InvalidArgumentError as error:
            raise self.fail(str(error)) from error
        for name in sorted(expander.unset - set(self.state.arguments)):
            hint = did_you_mean(name, self.state.env, "$")
            self.report(UNDEFINED_VAR, f"Usage of undefined variable '${name}'{hint}")
        return expanded

    def shown(self, text: str, *, raw: bool, masked: Mapping[str, str] | None = None) -> str:
        """Return ``text`` with its variables for progress; ``raw`` keeps quotes and what is not set."""
        try:
            return Expander({**self.state.env, **(masked or {})}, self.build.escape, show=raw).expand(text)
        except InvalidArgumentError:
            return text

    def metadata(self, text: str) -> Metadata:
        """Return what is said of the step that shows ``text``, and count it."""
        return self.named(self.progress.label(text, trigger=self.trigger, env=self.state.env))

    def named(self, name: str, group: ProgressGroup | None = None) -> Metadata:
        """Return what is said of a step that is called ``name``, and count nothing."""
        return Metadata(
            name=name,
            ignore_cache=self.ignore_cache,
            positions=(Position(self.lines.first, self.lines.last),),
            progress_group=group,
            description={"com.docker.dockerfile.v1.command": self.instruction.statement.original},
        )
