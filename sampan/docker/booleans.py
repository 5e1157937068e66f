"""True and false, of which Docker has three spellings: Go's, that of a request's query, and that of a filter."""

from typing import Final

from sampan.errors import InvalidArgumentError

# The spellings of Go's strconv.ParseBool.
SPELLINGS: Final = {
    **dict.fromkeys(("1", "t", "T", "TRUE", "true", "True"), True),
    **dict.fromkeys(("0", "f", "F", "FALSE", "false", "False"), False),
}
_QUERY_FALSE: Final = frozenset({"", "0", "no", "false", "none"})
_FILTER: Final = {"1": True, "true": True, "0": False, "false": False}


def parse_bool(text: str, what: str) -> bool:
    """Read a flag of a command line, a driver's option or an instruction's, as Go's strconv.ParseBool does.

    Raises:
        InvalidArgumentError: another spelling; ``what`` names the option.
    """
    if text not in SPELLINGS:
        raise InvalidArgumentError(f"invalid value for {what}: {text}")
    return SPELLINGS[text]


def query_bool(text: str) -> bool:
    """Read a parameter of a request, as Docker's httputils.BoolValue does: what is no known word for false is true."""
    return text.strip().lower() not in _QUERY_FALSE


def filter_bool(key: str, values: tuple[str, ...] | list[str]) -> bool:
    """Read a filter that is true or false, as Docker's Args.GetBoolOrDefault does: exactly 1, true, 0 or false.

    Raises:
        InvalidArgumentError: another spelling, nothing at all, or both.
    """
    known = {_FILTER[value] for value in values if value in _FILTER}
    if len(known) != 1:
        raise InvalidArgumentError(f"invalid filter '{key}=[{' '.join(values)}]'")
    return known.pop()
