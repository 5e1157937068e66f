"""``--change``: Dockerfile instructions applied to an image's config.

Reference: the Dockerfile reference; `docker import` and `docker commit` take a part of it.
"""

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from sampan.docker.durations import parse_duration
from sampan.dockerfile.words import assignments, expand, json_words, split_words
from sampan.errors import InvalidArgumentError
from sampan.oci.image_config import HealthCheck, RunConfig

_SHELL: Final = ("/bin/sh", "-c")
_PORT: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII | re.IGNORECASE)
_MAX_PORT: Final = 65535
_LEAST_NS: Final = 1_000_000  # of a health check's times, if they are given
_NOT_ON_BUILD: Final = frozenset({"FROM", "MAINTAINER"})


def apply_changes(run: RunConfig, changes: Sequence[str]) -> RunConfig:
    """Return ``run`` after the instructions, in their order.

    Raises:
        InvalidArgumentError: an instruction that is unknown here or malformed; in Docker's words.
    """
    command_set = False
    lines = list(_lines(changes))
    if changes and not lines:
        raise InvalidArgumentError("file with no instructions")
    for line in lines:
        name, _, arguments = line.partition(" ")
        instruction = name.upper()
        apply = _INSTRUCTIONS.get(instruction)
        if apply is None:
            raise InvalidArgumentError(f"{name.lower()} is not a valid change command")
        run = apply(run, arguments.strip())
        command_set = command_set or instruction == "CMD"
        if instruction == "ENTRYPOINT" and not command_set:
            run = replace(run, cmd=())  # the old command was the old entrypoint's
    return run


def _lines(changes: Iterable[str]) -> Iterator[str]:
    """Yield instructions: blank lines and comments dropped, continued lines joined, any blank a space."""
    pending = ""
    for line in (line for change in changes for line in [*change.split("\n"), None]):
        if line is not None and line.lstrip().startswith("#"):
            continue
        if line is not None and line.rstrip().endswith("\\"):
            pending += line.rstrip()[:-1]
            continue
        whole = (pending + (line or "")).strip()
        pending = ""
        if whole:
            word = whole.split(None, 1)
            yield " ".join(word)


def _environment(run: RunConfig) -> Mapping[str, str]:
    return {name: value for name, _, value in (pair.partition("=") for pair in run.env)}


def _command(run: RunConfig, text: str) -> tuple[str, ...]:
    words = json_words(text)
    if words is not None:
        return words
    return (*(run.shell or _SHELL), text) if text else ()


def _cmd(run: RunConfig, text: str) -> RunConfig:
    return replace(run, cmd=_command(run, text))


def _entrypoint(run: RunConfig, text: str) -> RunConfig:
    return replace(run, entrypoint=_command(run, text))


def _env(run: RunConfig, text: str) -> RunConfig:
    env = list(run.env)
    for name, value in assignments("ENV", text, _environment(run)):
        positions = [i for i, pair in enumerate(env) if pair.partition("=")[0] == name]
        if positions:
            env[positions[0]] = f"{name}={value}"
        else:
            env.append(f"{name}={value}")
    return replace(run, env=tuple(env))


def _label(run: RunConfig, text: str) -> RunConfig:
    return replace(run, labels={**run.labels, **dict(assignments("LABEL", text, _environment(run)))})


def _expose(run: RunConfig, text: str) -> RunConfig:
    ports = dict.fromkeys(run.exposed_ports)
    words = list(split_words(text))
    if not words:
        raise InvalidArgumentError("EXPOSE requires at least one argument")
    for word in words:
        ports |= dict.fromkeys(_ports(expand(word, _environment(run))))
    return replace(run, exposed_ports=tuple(ports))


def _ports(text: str) -> Iterator[str]:
    match = _PORT.fullmatch(text)
    first = int(match[1]) if match else 0
    last = int(match[2] or first) if match else 0
    if match is None or not 0 < first <= last <= _MAX_PORT:
        raise InvalidArgumentError(f"invalid containerPort: {text}")
    for port in range(first, last + 1):
        yield f"{port}/{(match[3] or 'tcp').lower()}"


def _on_build(run: RunConfig, text: str) -> RunConfig:
    trigger = text.partition(" ")[0].upper()
    if not trigger:
        raise InvalidArgumentError("ONBUILD requires at least one argument")
    if trigger == "ONBUILD":
        raise InvalidArgumentError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in _NOT_ON_BUILD:
        raise InvalidArgumentError(f"{trigger} isn't allowed as an ONBUILD trigger")
    return replace(run, on_build=(*run.on_build, text))


def _one(instruction: str, run: RunConfig, text: str) -> str:
    words = list(split_words(text))
    if len(words) != 1:
        raise InvalidArgumentError(f"{instruction} requires exactly one argument")
    return expand(words[0], _environment(run))


def _user(run: RunConfig, text: str) -> RunConfig:
    return replace(run, user=_one("USER", run, text))


def _stop_signal(run: RunConfig, text: str) -> RunConfig:
    return replace(run, stop_signal=_one("STOPSIGNAL", run, text))


def _work_dir(run: RunConfig, text: str) -> RunConfig:
    if not text:
        raise InvalidArgumentError("WORKDIR requires exactly one argument")
    path = posixpath.join("/", run.working_dir, expand(text, _environment(run)))
    return replace(run, working_dir=posixpath.normpath(path))


def _volume(run: RunConfig, text: str) -> RunConfig:
    words = json_words(text)
    if words is None:
        words = tuple(split_words(text))
    if not words:
        raise InvalidArgumentError("VOLUME requires at least one argument")
    volumes = dict.fromkeys(run.volumes)
    for word in words:
        path = expand(word, _environment(run)).strip()
        if not path:
            raise InvalidArgumentError("VOLUME specified can not be an empty string")
        volumes[path] = None
    return replace(run, volumes=tuple(volumes))


def _health_check(run: RunConfig, text: str) -> RunConfig:
    options = {}
    while text.startswith("--"):
        option, _, text = text.partition(" ")
        name, _, value = option[2:].partition("=")
        options[name] = value
        text = text.strip()
    kind, _, command = text.partition(" ")
    if kind.upper() == "NONE":
        if command.strip():
            raise InvalidArgumentError("HEALTHCHECK NONE takes no arguments")
        return replace(run, health_check=HealthCheck(("NONE",)))
    if kind.upper() != "CMD":
        raise InvalidArgumentError(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    if not command.strip():
        raise InvalidArgumentError("Missing command after HEALTHCHECK CMD")
    words = json_words(command)
    check = HealthCheck(
        test=("CMD-SHELL", command.strip()) if words is None else ("CMD", *words),
        interval_ns=_duration(options, "interval"),
        timeout_ns=_duration(options, "timeout"),
        start_period_ns=_duration(options, "start-period"),
        start_interval_ns=_duration(options, "start-interval"),
        retries=_retries(options.pop("retries", "0")),
    )
    if options:
        raise InvalidArgumentError(f"Unknown flag: {next(iter(options))}")
    return replace(run, health_check=check)


def _duration(options: dict[str, str], name: str) -> int:
    duration_ns = parse_duration(options.pop(name, "0s"))
    if duration_ns != 0 and duration_ns < _LEAST_NS:
        raise InvalidArgumentError(f'Interval "{name}" cannot be less than 1ms')
    return duration_ns


def _retries(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        if text[:1] == "-" and text[1:].isdigit():
            raise InvalidArgumentError(f"--retries cannot be negative ({text})")
        raise InvalidArgumentError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


_INSTRUCTIONS: Final[Mapping[str, Callable[[RunConfig, str], RunConfig]]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _health_check,
    "LABEL": _label,
    "ONBUILD": _on_build,
    "STOPSIGNAL": _stop_signal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _work_dir,
}
