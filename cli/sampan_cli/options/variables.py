"""``--env``, ``--env-file``, ``--label``, ``--label-file`` and other ``name=value``."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from sampan.errors import InvalidArgumentError


def environment(given: Iterable[str], files: Iterable[str], environ: Mapping[str, str]) -> list[str]:
    """Return ``NAME=value`` for every variable: the files', then the given ones, the last of a name winning.

    A name alone takes its value from ``environ`` and is left out if it has none there.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    variables: dict[str, str] = {}
    entries = [line for file in files for line in _read(file, "environment", "variable")]
    for entry in (*entries, *given):
        name, equals, value = entry.partition("=")
        if not name:
            raise InvalidArgumentError(f"invalid environment variable: {entry}")
        if equals:
            variables[name] = value
        elif name in environ:
            variables[name] = environ[name]
    return [f"{name}={value}" for name, value in variables.items()]


def labels(given: Iterable[str], files: Iterable[str] = ()) -> dict[str, str]:
    """Return labels; one without a value has an empty one.

    Raises:
        InvalidArgumentError: a label without a name.
    """
    entries = [line for file in files for line in _read(file, "label", "label")]
    return pairs((*entries, *given), "label")


def pairs(given: Iterable[str], what: str, *, need_value: bool = False) -> dict[str, str]:
    """Return ``name=value`` as a mapping; the last of a name wins.

    Raises:
        InvalidArgumentError: no name, or no value where there must be one.
    """
    found = {}
    for entry in given:
        name, equals, value = entry.partition("=")
        if not name.strip():
            raise InvalidArgumentError(f"invalid {what} '{entry}': empty name")
        if need_value and not equals:
            raise InvalidArgumentError(f"invalid {what} '{entry}': expected name=value")
        found[name] = value
    return found


def _read(file: str, what: str, thing: str) -> list[str]:
    """Return the entries of a file: one a line, without empty ones and comments."""
    try:
        text = Path(file).read_text("utf-8-sig")
    except OSError as error:
        raise InvalidArgumentError(f"open {file}: {(error.strerror or 'failed').lower()}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{what} file {file} is not UTF-8") from error
    entries = []
    for line in text.split("\n"):
        entry = line.rstrip("\r").lstrip()
        if not entry or entry.startswith("#"):
            continue
        name = entry.partition("=")[0]
        if not name:
            raise InvalidArgumentError(f"no {thing} name on line '{entry}'")
        if len(name.split()) != 1 or name != name.strip():
            raise InvalidArgumentError(f"poorly formatted {what}: {thing} '{name}' contains whitespaces")
        entries.append(entry)
    return entries
