"""Docker's filters on lists of volumes."""

from collections.abc import Callable, Iterable
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.pattern import any_found
from sampan.resource.listing import Filters
from sampan.resource.volume import Volume

Predicate = Callable[[Volume], bool]

_TRUTHS: Final = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


def select(volumes: Iterable[Volume], filters: Filters) -> list[Volume]:
    """Return those that pass every filter; of one filter's values any, but of labels all.

    Raises:
        InvalidArgumentError: an unknown filter, or a value that cannot be.
    """
    predicates = [_predicate(key, values) for key, values in filters.items() if values]
    return [volume for volume in volumes if all(predicate(volume) for predicate in predicates)]


def split_prune_filters(filters: Filters) -> tuple[bool, Filters]:
    """Return whether named volumes are meant, too, and the other filters of a prune."""
    everything = any(_truth("all", value) for value in filters.get("all", ()))
    rest = {key: values for key, values in filters.items() if key != "all"}
    for key in rest:
        if key not in ("label", "label!"):
            raise InvalidArgumentError(f"invalid filter '{key}'")
    return everything, rest


def _predicate(key: str, values: tuple[str, ...]) -> Predicate:
    match key:
        case "name":
            found = any_found(values, "invalid filter 'name'")
            return lambda volume: found(volume.name)
        case "driver":
            return lambda volume: volume.driver in values
        case "dangling":
            wanted = {_truth(key, value) for value in values}
            return lambda volume: (not volume.used_by) in wanted
        case "label":
            return lambda volume: all(_has_label(volume, value) for value in values)
        case "label!":
            return lambda volume: not any(_has_label(volume, value) for value in values)
        case _:
            raise InvalidArgumentError(f"invalid filter '{key}'")


def _has_label(volume: Volume, text: str) -> bool:
    name, separator, value = text.partition("=")
    return name in volume.labels and (not separator or volume.labels[name] == value)


def _truth(key: str, text: str) -> bool:
    truth = _TRUTHS.get(text.lower())
    if truth is None:
        raise InvalidArgumentError(f"invalid filter '{key}={text}'")
    return truth
