"""The instructions of a Dockerfile as values: flags and arguments parsed, variables not yet put in.

Reference: the Dockerfile reference, one heading per instruction. Errors are in the words that Docker's clients show.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from sampan.dockerfile.changes import apply_changes
from sampan.dockerfile.mounts import RunDevice, RunMount, parse_device, parse_run_mount
from sampan.dockerfile.source import (
    DockerfileError,
    HereDocument,
    Lines,
    MissingTriggerError,
    Source,
    Statement,
    UnknownInstructionError,
    parse_source,
)
from sampan.dockerfile.words import did_you_mean, json_words, split_pairs, split_words
from sampan.errors import InvalidArgumentError
from sampan.oci.image_config import RunConfig

T = TypeVar("T")

_PAIR_WORDS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What every instruction has."""

    statement: Statement

    @property
    def lines(self) -> Lines:
        """Where it stands."""
        return self.statement.lines


@dataclass(frozen=True, slots=True, kw_only=True)
class From(Instruction):
    """``FROM [--platform=P] image [AS name]``: begins a stage."""

    image: str
    name: str = ""  # lower case
    written_name: str = ""
    written_as: str = ""  # the keyword between the image and the name
    platform: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arg(Instruction):
    """``ARG name[=default] …``; a value of None is an argument without a default."""

    arguments: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs(Instruction):
    """``ENV`` and ``LABEL``."""

    pairs: tuple[tuple[str, str], ...]  # unexpanded; quotes still there
    legacy: bool = False  # "ENV name value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Instruction):
    """``CMD``, ``ENTRYPOINT``, ``SHELL``: words, or in shell form one text."""

    words: tuple[str, ...]
    shell_form: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(Instruction):
    """``RUN``, with its mounts."""

    words: tuple[str, ...]
    shell_form: bool
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"  # none, host
    security: str = "sandbox"  # insecure
    devices: tuple[RunDevice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Instruction):
    """``COPY`` and ``ADD``."""

    sources: tuple[str, ...]
    documents: tuple[HereDocument, ...]  # files whose content is in the Dockerfile
    destination: str
    from_stage: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str = ""  # ADD: of a URL
    keep_git_dir: bool | None = None  # ADD: of a repository
    unpack: bool | None = None  # ADD: None is what the reference says of local archives


@dataclass(frozen=True, slots=True, kw_only=True)
class Words(Instruction):
    """``EXPOSE`` and ``VOLUME``: words; ``USER``, ``WORKDIR``, ``STOPSIGNAL``, ``MAINTAINER``: one, the whole text."""

    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck(Instruction):
    """``HEALTHCHECK``: its text goes to ``changes.apply_changes`` as it is."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBuild(Instruction):
    """``ONBUILD``: an instruction for whoever builds on the image."""

    trigger: str


def parse_instructions(source: Source) -> tuple[Instruction, ...]:
    """Parse every statement of a Dockerfile.

    Raises:
        DockerfileError: an unknown instruction or flag, or arguments that it does not take; with its lines.
    """
    return tuple(parse_instruction(statement) for statement in source.statements)


def parse_instruction(statement: Statement) -> Instruction:
    """Parse one statement. Raises DockerfileError."""
    parse = _PARSERS.get(statement.keyword)
    if parse is None:
        hint = did_you_mean(statement.written, sorted(_PARSERS), fold=True)
        raise _parse_error(statement, f"unknown instruction: {statement.written}{hint}", UnknownInstructionError)
    if "\0" in statement.original or any("\0" in each.content for each in statement.here_documents):
        raise _parse_error(statement, "it has a NUL byte in it")
    try:
        return parse(statement)
    except DockerfileError:
        raise
    except InvalidArgumentError as error:
        raise _parse_error(statement, str(error)) from error


def _parse_error(statement: Statement, message: str, kind: type[DockerfileError] = DockerfileError) -> DockerfileError:
    lines = statement.lines
    return kind(f"dockerfile parse error on line {lines.first}: {message}", lines)


class _Flags:
    """The flags of one statement. Every flag is taken once; what is left over is unknown."""

    def __init__(self, statement: Statement, **known: str) -> None:
        """``known`` says of each flag whether it is "text", "bool" or "list"."""
        self._values: dict[str, list[str]] = {}
        for flag in statement.flags:
            name, equals, value = flag[2:].partition("=")
            kind = known.get(name.replace("-", "_"))
            if kind is None:
                hint = did_you_mean(name, sorted(each.replace("_", "-") for each in known))
                raise InvalidArgumentError(f"unknown flag: --{name}{hint}")
            if kind != "bool" and not equals:
                raise InvalidArgumentError(f"missing a value on flag: --{name}")
            if kind != "list" and name in self._values:
                raise InvalidArgumentError(f"duplicate flag specified: --{name}")
            self._values.setdefault(name, []).append(value if equals else "true")

    def text(self, name: str) -> str:
        return self._values.get(name, [""])[-1]

    def many(self, name: str) -> tuple[str, ...]:
        return tuple(self._values.get(name, ()))

    def truth(self, name: str) -> bool | None:
        value = self._values.get(name, [None])[-1]
        if value is None:
            return None
        if value.lower() not in ("true", "false"):
            raise InvalidArgumentError(f"expecting boolean value for flag {name}, not: {value}")
        return value.lower() == "true"


def _from(statement: Statement) -> Instruction:
    flags = _Flags(statement, platform="text")
    words = statement.text.split()
    if len(words) == 3 and words[1].upper() == "AS":
        name = words[2].lower()
        if not name[:1].isalpha() or not all(char.isalnum() or char in "-_." for char in name) or not name.isascii():
            raise InvalidArgumentError(
                f'invalid name for build stage: "{words[2]}", name can\'t start with a number or contain symbols'
            )
    elif len(words) == 1:
        name = ""
    else:
        raise InvalidArgumentError("FROM requires either one or three arguments")
    written_as, written_name = words[1:] if name else ("", "")
    return From(
        statement=statement,
        image=words[0],
        name=name,
        written_name=written_name,
        written_as=written_as,
        platform=flags.text("platform"),
    )


def _arg(statement: Statement) -> Instruction:
    _Flags(statement)
    words = list(split_words(statement.text))
    if not words:
        raise InvalidArgumentError("ARG requires at least one argument")
    arguments: list[tuple[str, str | None]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise InvalidArgumentError("ARG names can not be blank")
        arguments.append((name, value if equals else None))
    return Arg(statement=statement, arguments=tuple(arguments))


def _pairs(statement: Statement) -> Instruction:
    _Flags(statement)
    keyword, text = statement.keyword, statement.text
    if not text.strip():
        raise InvalidArgumentError(f"{keyword} requires at least one argument")
    ((pairs, legacy),) = _each(statement, lambda text: split_pairs(keyword, text), (text,))
    if not all(name for name, _ in pairs):
        raise InvalidArgumentError(f"{keyword} names can not be blank")
    return Pairs(statement=statement, pairs=pairs, legacy=legacy)


def _command(statement: Statement) -> Instruction:
    _Flags(statement)
    words = json_words(statement.text)
    if words is not None:
        return Command(statement=statement, words=words, shell_form=False)
    return Command(statement=statement, words=(statement.text,), shell_form=True)


def _shell(statement: Statement) -> Instruction:
    _Flags(statement)
    words = json_words(statement.text) if statement.text else ()
    if words is None:
        raise InvalidArgumentError("SHELL requires the arguments to be in JSON form")
    if not words:
        raise InvalidArgumentError("SHELL requires at least one argument")
    return Command(statement=statement, words=words, shell_form=False)


def _run(statement: Statement) -> Instruction:
    flags = _Flags(statement, mount="list", network="text", security="text", device="list")
    words = None if statement.here_documents else json_words(statement.text)
    if not statement.text.strip():
        raise InvalidArgumentError("RUN requires at least one argument")
    network, security = flags.text("network") or "default", flags.text("security") or "sandbox"
    if network not in ("default", "none", "host"):
        raise InvalidArgumentError(f"invalid network mode {json.dumps(network)}")
    if security not in ("sandbox", "insecure"):
        raise InvalidArgumentError(f"security {json.dumps(security)} is not valid")
    return Run(
        statement=statement,
        words=words if words is not None else (statement.text,),
        shell_form=words is None,
        mounts=_each(statement, parse_run_mount, flags.many("mount")),
        network=network,
        security=security,
        devices=_each(statement, parse_device, flags.many("device")),
    )


def _each(statement: Statement, parse: Callable[[str], T], texts: Iterable[str]) -> tuple[T, ...]:
    """Parse what BuildKit looks at when it makes the step: its errors are none of the parser's there."""
    try:
        return tuple(map(parse, texts))
    except InvalidArgumentError as error:
        raise DockerfileError(str(error), statement.lines) from error


def _transfer(statement: Statement) -> Instruction:
    common = {"chown": "text", "chmod": "text", "link": "bool", "exclude": "list"}
    own = (
        {"from": "text", "parents": "bool"}
        if statement.keyword == "COPY"
        else {"checksum": "text", "keep_git_dir": "bool", "unpack": "bool"}
    )
    flags = _Flags(statement, **common, **own)
    words = json_words(statement.text)
    if words is None:
        words = tuple(statement.text.split())  # quotes do not keep blanks together here; the JSON form does
    if len(words) < _PAIR_WORDS:
        raise InvalidArgumentError(
            f"{statement.keyword} requires at least two arguments, but only one was provided. Destination could not be "
            "determined"
        )
    *sources, destination = words
    documents = statement.here_documents
    plain = tuple(source for source in sources if not (documents and source.lstrip("0123456789").startswith("<<")))
    if destination.startswith("<<") and documents:
        raise InvalidArgumentError(f"{statement.keyword} cannot accept a heredoc as a destination")
    return Transfer(
        statement=statement,
        sources=plain,
        documents=documents,
        destination=destination,
        from_stage=flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=bool(flags.truth("link")),
        parents=bool(flags.truth("parents")),
        excludes=flags.many("exclude"),
        checksum=flags.text("checksum"),
        keep_git_dir=flags.truth("keep-git-dir"),
        unpack=flags.truth("unpack"),
    )


def _words(statement: Statement) -> Instruction:
    _Flags(statement)
    words = json_words(statement.text) if statement.keyword == "VOLUME" else None
    if words is None:
        words = tuple(statement.text.split())
    if not words:
        raise InvalidArgumentError(f"{statement.keyword} requires at least one argument")
    if not all(words):
        raise InvalidArgumentError(f"{statement.keyword} specified can not be an empty string")
    return Words(statement=statement, words=words)


def _one(statement: Statement) -> Instruction:
    _Flags(statement)
    if not statement.text:
        raise InvalidArgumentError(f"{statement.keyword} requires exactly one argument")
    return Words(statement=statement, words=(statement.text,))


def _health_check(statement: Statement) -> Instruction:
    if not statement.text:
        raise InvalidArgumentError("HEALTHCHECK requires at least one argument")
    text = " ".join((*statement.flags, statement.text))
    apply_changes(RunConfig(), [f"HEALTHCHECK {text}"])  # what cannot be is refused before anything is built
    return HealthCheck(statement=statement, text=text)


def _on_build(statement: Statement) -> Instruction:
    _Flags(statement)
    trigger = statement.text.split(None, 1)[0].upper() if statement.text else ""
    if not trigger:
        raise _parse_error(statement, "ONBUILD requires at least one argument", MissingTriggerError)
    if trigger == "ONBUILD":
        raise InvalidArgumentError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("FROM", "MAINTAINER"):
        raise InvalidArgumentError(f"{trigger} isn't allowed as an ONBUILD trigger")
    documents = "".join(f"\n{each.content}{each.name}" for each in statement.here_documents)
    return OnBuild(statement=statement, trigger=statement.text + documents)


def trigger_statement(trigger: str, lines: Lines) -> Statement:
    """Return an image's ONBUILD trigger as a statement that stands where its FROM does. Raises DockerfileError."""
    try:
        (statement, *more) = parse_source(trigger.encode()).statements
    except DockerfileError as error:
        raise DockerfileError(f"ONBUILD trigger {json.dumps(trigger)}: {error}", lines) from error
    if more:
        raise DockerfileError(f"ONBUILD trigger {json.dumps(trigger)} is more than one instruction", lines)
    return replace(statement, lines=lines)


_PARSERS: Final[Mapping[str, Callable[[Statement], Instruction]]] = {
    "ADD": _transfer,
    "ARG": _arg,
    "CMD": _command,
    "COPY": _transfer,
    "ENTRYPOINT": _command,
    "ENV": _pairs,
    "EXPOSE": _words,
    "FROM": _from,
    "HEALTHCHECK": _health_check,
    "LABEL": _pairs,
    "MAINTAINER": _one,
    "ONBUILD": _on_build,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _one,
    "USER": _one,
    "VOLUME": _words,
    "WORKDIR": _one,
}
