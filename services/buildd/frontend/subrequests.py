"""What a client can ask of a Dockerfile instead of building it: ``docker build --check`` and ``--call``.

Reference: moby/buildkit, docs/reference of subrequests; results are JSON for programs and text for people.
"""

import json
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from buildd.frontend.checks import Finding, description
from buildd.frontend.contexts import Dockerfile
from buildd.frontend.conversion import Conversion, Converted
from buildd.frontend.stage_graph import Unit
from buildd.frontend.state import Argument
from buildd.frontend.step import Mention
from buildd.protocol import Result
from sampan.dockerfile.instructions import From
from sampan.dockerfile.source import DockerfileError, Lines
from sampan.errors import SampanError

DESCRIBE: Final = "frontend.subrequests.describe"
OUTLINE: Final = "frontend.outline"
TARGETS: Final = "frontend.targets"
LINT: Final = "frontend.lint"

_VERSION: Final = "1.0.0"
_Members = dict[str, object]

_FILES: Final = ("result.json", "result.txt")
_REQUESTS: Final[tuple[_Members, ...]] = (
    {
        "name": OUTLINE,
        "version": _VERSION,
        "type": "rpc",
        "description": "List all parameters current build target supports",
        "opts": [{"name": "target", "description": "Target build stage"}],
        "metadata": [{"name": name} for name in _FILES],
    },
    {
        "name": TARGETS,
        "version": _VERSION,
        "type": "rpc",
        "description": "List all targets current build supports",
        "opts": [],
        "metadata": [{"name": name} for name in _FILES],
    },
    {
        "name": LINT,
        "version": _VERSION,
        "type": "rpc",
        "description": "Lint a Dockerfile",
        "opts": [],
        "metadata": [{"name": name} for name in (*_FILES, "result.statuscode")],
    },
    {
        "name": DESCRIBE,
        "version": _VERSION,
        "type": "rpc",
        "description": "List available subrequest types",
        "opts": [],
        "metadata": [{"name": name} for name in _FILES],
    },
)


def _result(document: object, text: str, **more: str) -> Result:
    metadata = {
        "result.json": json.dumps(document, indent=2, ensure_ascii=False).encode(),
        "result.txt": text.encode(),
        "version": _VERSION.encode(),
    }
    return Result({}, metadata | {f"result.{name}": value.encode() for name, value in more.items()})


def describe() -> Result:
    """Return which requests there are."""
    rows = [(str(each["name"]).removeprefix("frontend."), _VERSION, str(each["description"])) for each in _REQUESTS]
    return _result(list(_REQUESTS), _table(("NAME", "VERSION", "DESCRIPTION"), rows))


def targets(dockerfile: Dockerfile, stages: Sequence[From]) -> Result:
    """Return a Dockerfile's stages as they are written."""
    found = []
    rows = []
    for stage in stages:
        said = description(stage.statement.comments, stage.name)
        last = stage is stages[-1]
        members = {
            "name": stage.name,
            "default": last,
            "description": said,
            "base": stage.image,
            "platform": stage.platform,
        }
        found.append({**_present(members), "location": _location(stage.lines)})
        if stage.name or last:
            rows.append((f"{stage.name}{' (default)' if last and stage.name else '(default)' if last else ''}", said))
    document = {"targets": found, "sources": [b64encode(dockerfile.data).decode()]}
    return _result(document, _table(("TARGET", "DESCRIPTION"), rows))


def outline(dockerfile: Dockerfile, conversion: Conversion, converted: Converted) -> Result:
    """Return the arguments, secrets, agents and caches that a target takes."""
    units = _all_of(conversion, converted.target)
    arguments = _arguments(converted, units)
    secrets = _mentions(unit.trace.secrets for unit in units)
    agents = _mentions(unit.trace.agents for unit in units)
    caches = _mentions(unit.trace.caches for unit in units)
    stage = converted.target.stage
    members: _Members = {
        "name": stage.name,
        "description": stage.description,
        "args": [
            {
                **_present({"name": each.name, "description": each.description, "value": each.value}),
                "location": _location(each.lines),
            }
            for each in arguments
        ],
        "secrets": [_mentioned("name", name, each) for name, each in secrets],
        "ssh": [_mentioned("name", name, each) for name, each in agents],
        "cache": [_mentioned("ID", name, each) for name, each in caches],
        "sources": [b64encode(dockerfile.data).decode()],
    }
    text = ""
    if stage.name or stage.description:
        heads = (("TARGET:", stage.name), ("DESCRIPTION:", stage.description))
        text += "".join(f"{head:<15}{value}\n" for head, value in heads if value) + "\n"
    if arguments:
        rows = [(each.name, each.value, each.description) for each in arguments]
        text += _table(("BUILD ARG", "VALUE", "DESCRIPTION"), rows) + "\n"
    for head, found in (("SECRET", secrets), ("SSH", agents)):
        if found:
            text += _table((head, "REQUIRED"), [(name, "true" if each.required else "") for name, each in found]) + "\n"
    return _result(_present(members), text)


def _all_of(conversion: Conversion, target: Unit) -> list[Unit]:
    found: dict[Unit, None] = {}
    waiting = [target]
    while waiting:
        unit = waiting.pop(0)
        if unit not in found:
            found[unit] = None
            waiting += conversion.needs(unit)
    return list(found)


def _arguments(converted: Converted, units: Sequence[Unit]) -> list[Argument]:
    """Return what the stages declare themselves, and of the arguments before the first FROM those that they use."""
    found: dict[str, Argument] = {}
    used: set[str] = set()
    for unit in units:
        used |= unit.stage.used_arguments
        if unit.state is not None:
            used |= set(unit.state.arguments)
            found |= {name: each for name, each in unit.state.outline.items() if name not in found}
    for name in converted.arguments.used_with(frozenset(used)):
        if name in converted.arguments.outline:
            found.setdefault(name, converted.arguments.outline[name])
    return sorted(found.values(), key=lambda each: each.lines.first)


def _mentions(several: Iterable[Mapping[str, Mention]]) -> list[tuple[str, Mention]]:
    found: dict[str, Mention] = {}
    for mentions in several:
        for name, each in mentions.items():
            found.setdefault(name, each)
    return sorted(found.items(), key=lambda pair: pair[1].lines.first)


def _mentioned(key: str, name: str, mention: Mention) -> _Members:
    return {key: name, **({"required": True} if mention.required else {}), "location": _location(mention.lines)}


def lint(dockerfile: Dockerfile, findings: Sequence[Finding], error: SampanError | None) -> Result:
    """Return what the checks have found, and why the Dockerfile cannot be built, if it cannot."""
    warnings = [
        {
            "ruleName": each.rule.name,
            "description": each.rule.description,
            **_present({"url": each.rule.url}),
            "detail": each.message,
            "location": _location(each.lines),
        }
        for each in findings
    ]
    source = {
        "filename": dockerfile.name,
        "language": "Dockerfile",
        "definition": None,
        "data": b64encode(dockerfile.data).decode(),
    }
    document: _Members = {"warnings": warnings, "sources": [source]}
    text = ""
    for each in sorted(findings, key=lambda finding: finding.lines.first):
        heading = f"{each.rule.name} - {each.rule.url}" if each.rule.url else each.rule.name
        text += f"\nWARNING: {heading}\n{each.message}\n{excerpt(dockerfile, (each.lines,))}"
    if error is not None:
        lines = (*error.before, error.lines) if isinstance(error, DockerfileError) and error.lines else ()
        document["buildError"] = {"message": str(error), "location": _location(*lines) if lines else {}}
        text += f"\nERROR: {error}\n{excerpt(dockerfile, lines) if lines else ''}"
    return _result(document, text, statuscode="1" if findings or error is not None else "0")


def excerpt(dockerfile: Dockerfile, marked: Sequence[Lines]) -> str:
    """Return a few lines of a Dockerfile with those that matter marked, as clients show them under an error."""
    text = dockerfile.data.decode("utf-8", "replace").split("\n")
    beginning, end = min(each.first for each in marked), max(each.last for each in marked)
    margin = 2 if beginning == end else 1
    first, last = max(1, beginning - margin), min(len(text), end + margin)
    rule = "-" * 20
    rows = []
    for number in range(first, last + 1):
        mark = ">>>" if any(each.first <= number <= each.last for each in marked) else "   "
        rows.append(f"{number:>4} | {mark} {text[number - 1]}")
    return "\n".join((f"{dockerfile.name}:{beginning}", rule, *rows, rule, ""))


def _location(*marked: Lines) -> _Members:
    return {"ranges": [{"start": {"line": lines.first}, "end": {"line": lines.last}} for lines in marked]}


def _present(members: Mapping[str, object]) -> _Members:
    return {name: value for name, value in members.items() if value}


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return columns that are as wide as what is in them."""
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) + 3 for column in range(len(head))]
    return "".join(
        "".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )
