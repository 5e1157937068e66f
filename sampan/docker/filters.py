"""Docker's filters: which there are, and what their values mean, the same for every kind of object."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from sampan.docker.booleans import filter_bool
from sampan.docker.times import parse_moment
from sampan.errors import InvalidArgumentError
from sampan.pattern import any_found

# The values of each filter, any of which may match unless its reader says something else.
Filters = Mapping[str, Sequence[str]]
Labels = Mapping[str, str]


def parse_filters(given: Iterable[str], known: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the filters of a command line: ``key=value``, any number of times.

    Raises:
        InvalidArgumentError: no ``=``, or a key that is not ``known``.
    """
    allowed = tuple(known)
    found: dict[str, tuple[str, ...]] = {}
    for text in given:
        key, equals, value = text.partition("=")
        key = key.strip().lower()
        if not equals:
            raise InvalidArgumentError(f"invalid filter '{text}': expected key=value (bad format of filter)")
        if key not in allowed:
            raise InvalidArgumentError(f"invalid filter '{key}': known filters are {', '.join(allowed)}")
        found[key] = (*found.get(key, ()), value.strip())
    return found


def check_known(filters: Filters, known: Collection[str]) -> None:
    """Raise InvalidArgumentError, in Docker's words, for a filter that is not ``known``."""
    for key in filters:
        if key not in known:
            raise InvalidArgumentError(f"invalid filter '{key}'")


def truth(filters: Filters, key: str) -> bool | None:
    """Return the value of a filter that is true or false; None if it is not given. Raises as ``filter_bool``."""
    values = filters.get(key)
    return filter_bool(key, tuple(values)) if values else None


def until_ns(filters: Filters, now_ns: int, offset_s: int | None = None) -> int | None:
    """Return the moment that ``until`` names, read as by ``parse_moment``; None if it is not given.

    Raises:
        InvalidArgumentError: it is no moment, or there are several.
    """
    values = filters.get("until", ())
    if len(values) > 1:
        raise InvalidArgumentError("more than one until filter specified")
    return parse_moment(values[0], now_ns, offset_s) if values else None


def label_test(filters: Filters) -> Callable[[Labels], bool]:
    """Return a test whether labels have all of ``label``, each ``name`` or ``name=value``, and none of ``label!``."""
    wanted = [entry.partition("=") for entry in filters.get("label", ())]
    refused = [entry.partition("=") for entry in filters.get("label!", ())]
    return lambda labels: (
        all(_has(labels, *entry) for entry in wanted) and not any(_has(labels, *entry) for entry in refused)
    )


def _has(labels: Labels, name: str, equals: str, value: str) -> bool:
    return name in labels and (not equals or labels[name] == value)


def found_test(filters: Filters, key: str) -> Callable[[str], bool]:
    """Return a test whether one of the regular expressions of filter ``key`` is found in a text; all pass without any.

    Raises:
        InvalidArgumentError: one of them cannot be compiled.
    """
    values = filters.get(key)
    return any_found(values, f"invalid filter '{key}'") if values else lambda _: True
