"""Instructions that change an image's config and none of its files.

Reference: the Dockerfile reference; what they write into the history is what BuildKit writes there.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from signal import Signals
from typing import Final

from buildd.frontend.checks import (
    EXPOSE_INVALID_FORMAT,
    EXPOSE_PROTO_CASING,
    JSON_ARGS_RECOMMENDED,
    LEGACY_KEY_VALUE,
    MULTIPLE_INSTRUCTIONS,
    SECRETS_IN_ARG_OR_ENV,
    description,
)
from buildd.frontend.state import Argument
from buildd.frontend.step import Step
from sampan.docker.durations import go_duration
from sampan.dockerfile.changes import apply_changes
from sampan.dockerfile.instructions import Arg, Command, HealthCheck, OnBuild, Pairs, Words
from sampan.dockerfile.words import quoted
from sampan.errors import InvalidArgumentError
from sampan.oci.config_document import MAX_ITEMS
from sampan.oci.image_config import HealthCheck as HealthCheckConfig

_SECRET: Final = re.compile(
    r"(?:_|^)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_NOT_SECRET: Final = re.compile(r"(?:_|^)(?:public|file|version)(?:_|$)", re.IGNORECASE)

# Arguments that steer the build and are no variables of its steps.
_NOT_A_VARIABLE: Final = frozenset(("BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"))

_REAL_TIME: Final = re.compile(r"RTMIN(?:\+(?:[0-9]|1[0-5]))?|RTMAX(?:-(?:[0-9]|1[0-4]))?")
_SIGNAL_DIGITS: Final = 3  # any number, as far as BuildKit is concerned
_MAX_PORT: Final = 65535
_PROTOCOLS: Final = ("tcp", "udp", "sctp")


def configure(step: Step) -> bool:
    """Apply a step's instruction to the config; return False if it is one of those that change files.

    Raises:
        DockerfileError: it cannot be applied.
    """
    instruction = step.instruction
    if isinstance(instruction, Arg):
        _argument(step, instruction)
    elif isinstance(instruction, Pairs):
        _pairs(step, instruction)
    elif isinstance(instruction, Command):
        _command(step, instruction)
    elif isinstance(instruction, HealthCheck):
        _health_check(step, instruction)
    elif isinstance(instruction, OnBuild):
        step.state.run = replace(step.state.run, on_build=(*step.state.run.on_build, instruction.trigger))
    elif isinstance(instruction, Words) and instruction.statement.keyword in _WORDS:
        _WORDS[instruction.statement.keyword](step, instruction.words)
    else:
        return False
    return True


def _argument(step: Step, arg: Arg) -> None:
    state, build = step.state, step.build
    shown = []
    for name, default in arg.arguments:
        _check_secret(step, "ARG", name)
        given = build.options.build_args.get(name)
        inherited = given is None and default is None and name in build.global_arguments
        value = given
        if inherited:
            value = build.global_arguments[name]
        elif given is None and default is not None:
            value = step.expand(default)
        if value is not None and name not in _NOT_A_VARIABLE:
            state.set_step_variable(name, value)
        if not inherited:
            said = description(arg.statement.comments, name)
            state.outline[name] = Argument(name, value or "", arg.lines, said)
        state.arguments.pop(name, None)
        state.arguments[name] = value
        shown.append(name if value is None else f"{name}={value}")
    _check_number(step, len(state.env), "variables")
    state.note(f"ARG {' '.join(shown)}", layer=False)


def _pairs(step: Step, pairs: Pairs) -> None:
    """Expand all pairs against what was there before: ``ENV a=1 b=$a`` sees the old ``a``."""
    if pairs.legacy:
        step.report(
            LEGACY_KEY_VALUE,
            f'"{step.keyword} key=value" should be used instead of legacy "{step.keyword} key value" format',
        )
    expanded = [(step.expand(name), step.expand(value)) for name, value in pairs.pairs]
    if step.keyword == "ENV":
        for name, _ in expanded:
            _check_secret(step, "ENV", name)
        step.state.set_env(expanded)
        _check_number(step, len(step.state.env), "variables")
    else:
        step.state.run = replace(step.state.run, labels={**step.state.run.labels, **dict(expanded)})
        _check_number(step, len(step.state.run.labels), "labels")
    step.state.note(f"{step.keyword} {' '.join(f'{name}={value}' for name, value in expanded)}", layer=False)


def _check_number(step: Step, number: int, what: str) -> None:
    """Refuse what would make an image that cannot be read."""
    if number > MAX_ITEMS:
        raise step.fail(f"image has more than {MAX_ITEMS} {what}")


def _check_secret(step: Step, keyword: str, name: str) -> None:
    if _SECRET.search(name) and not _NOT_SECRET.search(name):
        step.report(
            SECRETS_IN_ARG_OR_ENV, f'Do not use ARG or ENV instructions for sensitive data ({keyword} "{name}")'
        )


def _once(step: Step) -> None:
    """Check that an instruction of which only the last one counts is given once; the earlier one is to blame."""
    earlier = step.state.once.get(step.keyword)
    if earlier is not None:
        step.checks.report(
            MULTIPLE_INSTRUCTIONS,
            f"Multiple {step.keyword} instructions should not be used in the same stage because only the last one "
            "will be used",
            earlier,
        )
    step.state.once[step.keyword] = step.lines


def _command(step: Step, command: Command) -> None:
    state, keyword = step.state, step.keyword
    if keyword == "SHELL":
        state.run = replace(state.run, shell=command.words)
        state.note(f"SHELL [{' '.join(command.words)}]", layer=False)
        return
    _once(step)
    words = command.words
    if command.shell_form and words:
        if not state.run.shell:
            step.report(
                JSON_ARGS_RECOMMENDED,
                f"JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals",
            )
        words = (*state.shell, *words)
    if keyword == "CMD":
        state.run = replace(state.run, cmd=words, args_escaped=True)
    else:
        # The command of the base was its entrypoint's.
        cmd = state.run.cmd if "CMD" in state.once else ()
        state.run = replace(state.run, entrypoint=words, cmd=cmd)
    state.note(f"{keyword} [{' '.join(map(quoted, words))}]", layer=False)


def _health_check(step: Step, instruction: HealthCheck) -> None:
    _once(step)
    try:
        step.state.run = apply_changes(step.state.run, [f"HEALTHCHECK {instruction.text}"])
    except InvalidArgumentError as error:
        raise step.fail(str(error)) from error
    check = step.state.run.health_check or HealthCheckConfig(())
    step.state.note(
        f"HEALTHCHECK {{Test:[{' '.join(check.test)}] Interval:{go_duration(check.interval_ns)} "
        f"Timeout:{go_duration(check.timeout_ns)} StartPeriod:{go_duration(check.start_period_ns)} "
        f"StartInterval:{go_duration(check.start_interval_ns)} Retries:{check.retries}}}",
        layer=False,
    )


def _maintainer(step: Step, words: Sequence[str]) -> None:
    step.state.author = words[0]
    step.state.note(f"MAINTAINER {words[0]}", layer=False)


def _user(step: Step, words: Sequence[str]) -> None:
    user = step.expand(words[0])
    step.state.run = replace(step.state.run, user=user)
    step.state.note(f"USER {user}", layer=False)


def _stop_signal(step: Step, words: Sequence[str]) -> None:
    signal = step.expand(words[0])
    if not _is_signal(signal):
        raise step.fail(f"invalid signal: {signal}")
    step.state.run = replace(step.state.run, stop_signal=signal)
    step.state.note(f"STOPSIGNAL {signal}", layer=False)


def _is_signal(text: str) -> bool:
    if text.isascii() and text.isdigit():
        return len(text) <= _SIGNAL_DIGITS and int(text) > 0
    name = text.upper().removeprefix("SIG")
    return f"SIG{name}" in Signals.__members__ or _REAL_TIME.fullmatch(name) is not None


def _volume(step: Step, words: Sequence[str]) -> None:
    volumes = [step.expand(word) for word in words]
    if not all(volumes):
        raise step.fail("VOLUME specified can not be an empty string")
    step.state.run = replace(step.state.run, volumes=tuple(dict.fromkeys((*step.state.run.volumes, *volumes))))
    _check_number(step, len(step.state.run.volumes), "volumes")
    step.state.note(f"VOLUME [{' '.join(volumes)}]", layer=False)


def _expose(step: Step, words: Sequence[str]) -> None:
    # A variable may hold several ports; BuildKit sorts what is written, and so the history is sorted.
    given = [part for word in sorted(words) for part in step.expand(word).split()]
    ports: list[str] = []
    for word in given:
        ports += _ports(step, word)
        _check_number(step, len(ports), "ports")
    exposed = tuple(dict.fromkeys((*step.state.run.exposed_ports, *ports)))
    _check_number(step, len(exposed), "ports")
    step.state.run = replace(step.state.run, exposed_ports=exposed)
    step.state.note(f"EXPOSE [{' '.join(ports)}]", layer=False)


def _ports(step: Step, word: str) -> Iterator[str]:
    """Yield the ports of ``[[ip:]host:]first[-last][/protocol]``; address and port of the host mean nothing here."""
    address, colon, container = word.rpartition(":")
    if colon:
        step.report(
            EXPOSE_INVALID_FORMAT,
            f"EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'",
        )
        host = address.rpartition(":")[2]
        if host and not _is_range(host):
            raise step.fail(f"invalid hostPort: {host}")
    numbers, _, protocol = container.partition("/")
    if protocol != protocol.lower():
        step.report(EXPOSE_PROTO_CASING, f"Defined protocol '{word}' in EXPOSE instruction should be lowercase")
    if not numbers:
        raise step.fail(f"no port specified: {word}<empty>")
    if (protocol or "tcp").lower() not in _PROTOCOLS:
        raise step.fail(f"invalid port: {quoted(word)}: invalid proto: {protocol.lower()}")
    if not _is_range(numbers):
        raise step.fail(f"invalid containerPort: {numbers}")
    first, _, last = numbers.partition("-")
    for port in range(int(first), int(last or first) + 1):
        yield f"{port}/{(protocol or 'tcp').lower()}"


def _is_range(text: str) -> bool:
    first, dash, last = text.partition("-")
    ends = (first, last) if dash else (first, first)
    if not all(end.isascii() and end.isdigit() and len(end) < 6 for end in ends):
        return False
    return int(ends[0]) <= int(ends[1]) <= _MAX_PORT


_WORDS: Final[Mapping[str, Callable[[Step, Sequence[str]], None]]] = {
    "EXPOSE": _expose,
    "MAINTAINER": _maintainer,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
}
