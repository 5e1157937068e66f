"""``--filter``: ``key=value``, any number of times."""

from collections.abc import Iterable

from sampan.errors import InvalidArgumentError


def parse_filters(given: Iterable[str], known: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the values of each key, any of which may match.

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
