"""What a Dockerfile says, step by step, for clients that count every instruction as a step, as dockerd's first builder.

BuildKit's progress shows the steps that make files, numbered by stage, with their variables put in. With the attribute
``ATTRIBUTE`` a build also tells, before its first step runs, all instructions of the stages that it needs, as they are
written: as the log of a step called ``STEP``.
"""

import json
from dataclasses import asdict, dataclass
from typing import Final

ATTRIBUTE: Final = "sampan.plan"
STEP: Final = "[internal] plan of the build"

_TEXTS: Final = ("text", "place", "image")


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One instruction."""

    text: str  # on one line, as it is written
    place: str = ""  # what progress shows before its step, as "build 2/5" of "[build 2/5] RUN make"; empty: no step
    image: str = ""  # ID of the image that a FROM names; empty for a stage, and for scratch
    trigger: bool = False  # an ONBUILD of the base, which belongs to its FROM


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it."""

    steps: tuple[PlannedStep, ...] = ()
    unused_arguments: tuple[str, ...] = ()  # build arguments that were given and that no ARG names


def encode_plan(plan: Plan) -> bytes:
    """Return a plan as it is told."""
    return json.dumps(asdict(plan), separators=(",", ":")).encode()


def decode_plan(data: bytes) -> Plan:
    """Return the plan that was told; an empty one if it is none, since a frontend may give any name to a step."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return Plan()
    if not isinstance(document, dict):
        return Plan()
    rows, unused = document.get("steps"), document.get("unused_arguments")
    if not isinstance(rows, list) or not isinstance(unused, list) or not all(isinstance(each, str) for each in unused):
        return Plan()
    steps = []
    for row in rows:
        if not isinstance(row, dict) or not all(isinstance(row.get(name, ""), str) for name in _TEXTS):
            return Plan()
        texts = {name: row.get(name, "") for name in _TEXTS}
        steps.append(PlannedStep(**texts, trigger=row.get("trigger") is True))
    return Plan(tuple(steps), tuple(unused))
