"""BuildKit's build checks: the rules, what is found, and which of them a Dockerfile asks for.

Reference: the Docker documentation, "Build checks"; the Dockerfile reference, "check" directive.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sampan.build.progress import BuildWarning, Position
from sampan.dockerfile.source import Lines
from sampan.errors import InvalidArgumentError

_ALL: Final = "all"
_PAGES: Final = "https://docs.docker.com/go/dockerfile/rule/"
_WORDS: Final = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_TRUTH: Final = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that is looked for."""

    name: str
    description: str
    experimental: bool = False  # only for whoever asks for it
    explained: bool = True  # it has a page of its own

    @property
    def url(self) -> str:
        """Where clients send people to read on; empty if there is no such page."""
        return f"{_PAGES}{_WORDS.sub('-', self.name).lower()}/" if self.explained else ""


STAGE_NAME_CASING: Final = Rule("StageNameCasing", "Stage names should be lowercase")
FROM_AS_CASING: Final = Rule("FromAsCasing", "The 'as' keyword should match the case of the 'from' keyword")
NO_EMPTY_CONTINUATION: Final = Rule(
    "NoEmptyContinuation", "Empty continuation lines will become errors in a future release"
)
CONSISTENT_CASING: Final = Rule(
    "ConsistentInstructionCasing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
)
DUPLICATE_STAGE_NAME: Final = Rule("DuplicateStageName", "Stage names should be unique")
RESERVED_STAGE_NAME: Final = Rule("ReservedStageName", "Reserved words should not be used as stage names")
JSON_ARGS_RECOMMENDED: Final = Rule(
    "JSONArgsRecommended",
    "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
)
MAINTAINER_DEPRECATED: Final = Rule(
    "MaintainerDeprecated", "The MAINTAINER instruction is deprecated, use a label instead to define an image author"
)
UNDEFINED_ARG_IN_FROM: Final = Rule("UndefinedArgInFrom", "FROM command must use declared ARGs")
WORKDIR_RELATIVE_PATH: Final = Rule(
    "WorkdirRelativePath",
    "Relative workdir without an absolute workdir declared within the build can have unexpected results if the base "
    "image changes",
)
UNDEFINED_VAR: Final = Rule("UndefinedVar", "Variables should be defined before their use")
MULTIPLE_INSTRUCTIONS: Final = Rule(
    "MultipleInstructionsDisallowed", "Multiple instructions of the same type should not be used in the same stage"
)
LEGACY_KEY_VALUE: Final = Rule(
    "LegacyKeyValueFormat", "Legacy key/value format with whitespace separator should not be used"
)
REDUNDANT_TARGET_PLATFORM: Final = Rule(
    "RedundantTargetPlatform",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
)
SECRETS_IN_ARG_OR_ENV: Final = Rule(
    "SecretsUsedInArgOrEnv", "Sensitive data should not be used in the ARG or ENV commands"
)
INVALID_DEFAULT_ARG: Final = Rule(
    "InvalidDefaultArgInFrom", "Default value for global ARG results in an empty or invalid base image name"
)
CONSTANT_PLATFORM: Final = Rule(
    "FromPlatformFlagConstDisallowed", "FROM --platform flag should not use a constant value"
)
COPY_IGNORED_FILE: Final = Rule("CopyIgnoredFile", "Attempting to Copy file that is excluded by .dockerignore")
INVALID_DESCRIPTION: Final = Rule(
    "InvalidDefinitionDescription",
    "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. If this is not "
    "intended to be a description comment, add an empty line or comment between the instruction and the comment.",
    experimental=True,
)
INVALID_BASE_PLATFORM: Final = Rule(
    "InvalidBaseImagePlatform", "Base image platform does not match expected target platform", explained=False
)
EXPOSE_PROTO_CASING: Final = Rule("ExposeProtoCasing", "Protocol in EXPOSE instruction should be lowercase")
EXPOSE_INVALID_FORMAT: Final = Rule(
    "ExposeInvalidFormat",
    "IP address and host-port mapping should not be used in EXPOSE instruction. This will become an error in a future "
    "release",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a rule objects to."""

    rule: Rule
    message: str
    lines: Lines

    @property
    def warning(self) -> BuildWarning:
        """The finding as a build shows it."""
        return BuildWarning(
            rule=self.rule.name,
            message=f"{self.rule.name}: {self.message} (line {self.lines.first})",
            detail=(self.rule.description,),
            url=self.rule.url,
            positions=(Position(self.lines.first, self.lines.last),),
        )


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """``skip=A,B;error=true;experimental=all``."""

    skip: frozenset[str] = frozenset()
    experimental: frozenset[str] = frozenset()
    error: bool = False

    def wants(self, rule: Rule) -> bool:
        """Say whether what ``rule`` finds is told."""
        names = {rule.name, _ALL}
        if rule.experimental and not names & self.experimental:
            return False
        return not names & self.skip

    def merged(self, other: "CheckOptions") -> "CheckOptions":
        """Return what an instruction's own options make of these: it can skip more, not less."""
        return replace(self, skip=self.skip | other.skip, experimental=self.experimental | other.experimental)


def parse_check_options(text: str) -> CheckOptions:
    """Parse the value of a ``check`` directive.

    Raises:
        InvalidArgumentError: an option that is unknown or has no such value; in BuildKit's words.
    """
    options = CheckOptions()
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = part.partition("=")
        if not equals:
            raise InvalidArgumentError(f'invalid check option "{part}"')
        rules = frozenset(each.strip() for each in value.split(",") if each.strip())
        match name.strip().lower():
            case "skip":
                options = replace(options, skip=rules)
            case "experimental":
                options = replace(options, experimental=rules)
            case "error":
                if value.strip().lower() not in _TRUTH:
                    raise InvalidArgumentError(f'failed to parse check option "error" with value "{value}"')
                options = replace(options, error=_TRUTH[value.strip().lower()])
            case _:
                raise InvalidArgumentError(f'invalid check option "{name}"')
    return options


@dataclass(slots=True)
class Checks:
    """What has been found so far. Findings are kept once, in the order of their discovery."""

    options: CheckOptions = CheckOptions()
    findings: list[Finding] = field(default_factory=list)

    def report(self, rule: Rule, message: str, lines: Lines) -> None:
        """Note a finding, unless its rule is not wanted."""
        finding = Finding(rule, message, lines)
        if self.options.wants(rule) and finding not in self.findings:
            self.findings.append(finding)

    def beside(self, comments: Iterable[str]) -> "Checks":
        """Return the checks for an instruction with ``# check=…`` above it; findings go to the same list."""
        options = self.options
        for comment in comments:
            name, equals, value = comment.partition("=")
            if equals and name.strip() == "check":
                try:
                    options = options.merged(parse_check_options(value.strip()))
                except InvalidArgumentError:
                    continue  # an ordinary comment that happens to look like one
        return self if options is self.options else Checks(options, self.findings)

    def raise_if_asked(self) -> None:
        """Fail the build if findings are errors. Raises InvalidArgumentError."""
        if self.options.error and self.findings:
            rules = ", ".join(sorted({finding.rule.name for finding in self.findings}))
            raise InvalidArgumentError(f"lint violation found for rules: {rules}")


def description(comments: Sequence[str], name: str) -> str:
    """Return what the comment above a stage or an argument says of it: ``# name text``."""
    prefix = f"{name} "
    said = [comment.removeprefix(prefix) for comment in comments if comment.startswith(prefix)]
    return said[0].strip() if said and name else ""
