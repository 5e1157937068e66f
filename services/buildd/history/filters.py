"""Which builds a client wants to see: ``status==error``, ``duration>=1m``, ``repository~=github``.

A filter is a list of conditions with commas between them, all of which have to hold; of several filters, one has to.

Reference: moby/buildkit, solver/llbsolver/history/filter.go; docker/buildx, docs/reference/buildx_history_ls.md.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from buildd.history.model import CANCELLED, BuildRecord
from buildd.llb.git import parse_git_reference
from sampan.docker.durations import parse_duration
from sampan.errors import InvalidArgumentError
from sampan.filter_expressions import parse_filters as parse_expressions

Passes = Callable[[BuildRecord], bool]

_SECOND_NS: Final = 10**9
_TIMED: Final = re.compile(r"(startedAt|completedAt|duration)(>=|<=|>|<)(.*)", re.DOTALL)
_COMPARE: Final[Mapping[str, Callable[[int, int], bool]]] = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    "<": lambda value, bound: value < bound,
}


def parse_filters(texts: Sequence[str], now_ns: Callable[[], int]) -> Passes:
    """Return what says of a build whether it passes; without filters every one does.

    Raises:
        InvalidArgumentError: a filter, time or duration that cannot be.
    """
    alternatives = [_filter(text, now_ns) for text in texts]
    return lambda record: not alternatives or any(all(holds(record) for holds in one) for one in alternatives)


def _filter(text: str, now_ns: Callable[[], int]) -> Sequence[Passes]:
    try:
        conditions = next(csv.reader([text], strict=True), [])
    except csv.Error as error:
        raise InvalidArgumentError(f"failed to parse history filters {text!r}: {error}") from error
    found = []
    rest = []
    for each in conditions:
        if timed := _TIMED.fullmatch(each):
            found.append(_timed(timed[1], timed[2], timed[3], now_ns))
        else:
            rest.append(each)
    expression = parse_expressions([",".join(rest)] if rest else [])
    found.append(lambda record: expression(lambda path: _field(record, path)))
    return found


def _timed(name: str, sign: str, text: str, now_ns: Callable[[], int]) -> Passes:
    compare = _COMPARE[sign]
    if name == "duration":
        bound = _duration(text)
        if bound is None:
            raise InvalidArgumentError(f"invalid duration {text}")
        return lambda record: compare(record.completed_ns - record.created_ns if record.completed_ns else 0, bound)
    ago = _duration(text)
    second = (now_ns() - ago) // _SECOND_NS if ago is not None else _second(text)
    if name == "startedAt":
        return lambda record: compare(record.created_ns // _SECOND_NS, second)
    return lambda record: compare(record.completed_ns // _SECOND_NS, second)


def _duration(text: str) -> int | None:
    try:
        return parse_duration(text)
    except InvalidArgumentError:
        return None


def _second(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgumentError(f"invalid time {text}") from error
    if moment.tzinfo is None:  # RFC 3339 has one
        raise InvalidArgumentError(f"invalid time {text}")
    return int(moment.timestamp())


def _field(record: BuildRecord, path: Sequence[str]) -> str | None:
    match path[0]:
        case "ref":
            return record.ref
        case "status":
            return _status(record)
        case "repository":
            return _repository(record.attributes)
    return None


def _status(record: BuildRecord) -> str:
    if not record.completed_ns:
        return "running"
    if not record.error:
        return "completed"
    return "canceled" if CANCELLED in record.error else "error"


def _repository(attributes: Mapping[str, str]) -> str | None:
    if "vcs:source" in attributes:
        return attributes["vcs:source"]
    try:
        found = parse_git_reference(attributes.get("context", ""))
    except InvalidArgumentError:
        return None
    return found.remote if found is not None else None
