"""Configuration of a service: defaults, then a TOML file, then the environment, then flags; the last one wins.

One frozen dataclass per service says what there is. Scalars and lists of strings can be set in all four places;
tables (a dataclass, a tuple of dataclasses) only in the file.
"""

import contextlib
import dataclasses
import math
import types
import typing
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from sampan.errors import InvalidArgumentError
from sampan.layout import DEFAULT_DATA_ROOT, DEFAULT_RUN_ROOT, Layout
from sampan.services import ALL

C = TypeVar("C", bound="ServiceConfig")

CONFIG_DIRECTORY = Path("/etc/sampan")

_PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy")


def option(default: Any, help: str) -> Any:
    """Return a dataclass field with a help text, for ``--help`` and docs/configuration.md."""
    return field(default=default, metadata={"help": help})


def required(help: str) -> Any:
    """Return a field of a table that has no default."""
    return field(metadata={"help": help})


def tables(help: str) -> Any:
    """Return a field that holds any number of tables, ``[[name]]`` in the file; the file alone can set it."""
    return field(default=(), metadata={"tables": help})


def secret(help: str) -> Any:
    """Return a field that no log and no error shows."""
    return field(default="", repr=False, metadata={"help": help})


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What every service can be told."""

    data_root: Path = option(DEFAULT_DATA_ROOT, "directory for what must survive a reboot")
    run_root: Path = option(DEFAULT_RUN_ROOT, "directory for sockets and other volatile things")
    metrics: str = option("auto", 'host:port for /metrics, "auto", or "off"')
    log_level: str = option("info", "debug, info, warning or error")
    log_format: str = option("json", "json or text")
    grace_s: float = option(5.0, "seconds that calls in flight get to end when the service stops")
    traces: str = option("", "where traces go by OTLP, as http://127.0.0.1:4318/v1/traces; empty: none are made")
    socket_group: str = option("sampan", "group that may use the sockets, if it exists")

    @property
    def layout(self) -> Layout:
        """The engine's paths."""
        return Layout(self.data_root, self.run_root)


@dataclass(frozen=True, slots=True)
class ProxyConfig(ServiceConfig):
    """Of a service that reaches what is elsewhere."""

    http_proxy: str = option("", "proxy for http, as http://proxy.example:3128; empty: the one in $HTTP_PROXY")
    https_proxy: str = option("", "likewise for https")
    no_proxy: str = option(
        "", "hosts that are reached without one, as .lan.example,10.1.2.3; empty: those in $NO_PROXY"
    )

    def name_proxies(self, environ: MutableMapping[str, str]) -> None:
        """Put what is said here in the place of what the environment says, for this process and its children.

        Raises:
            InvalidArgumentError: no proxy's address; the message names the key.
        """
        for key in _PROXIES:
            text: str = getattr(self, key)
            if not text:
                continue
            environ.pop(key.upper(), None)
            environ[key] = text if key == "no_proxy" else _proxy(key, text)


def _proxy(key: str, text: str) -> str:
    """Return a proxy's URL; without a scheme it speaks http, as curl and Go have it."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or any(c.isspace() for c in url):
        raise InvalidArgumentError(f"{key}: {text.rpartition('@')[2]!r} is no proxy: expected http://host:port")
    return url


def load(kind: type[C], service: str, argv: Sequence[str], environ: Mapping[str, str]) -> C:
    """Read the configuration of ``service``.

    The file is ``--config``, or ``<SAMPAN_CONFIG_DIR or /etc/sampan>/<service>.toml`` if it exists. A variable is
    named SAMPAN_<SERVICE>_<KEY>; SAMPAN_<KEY> sets it for all services.

    Raises:
        InvalidArgumentError: an unknown key, named together with the nearest known one, or a value of the wrong type.
    """
    flags = _parse_flags(kind, service, argv)
    config_directory = Path(environ.get("SAMPAN_CONFIG_DIR", CONFIG_DIRECTORY))
    explicit = flags.pop("config", None)
    path = Path(explicit) if explicit else config_directory / f"{service}.toml"
    values: dict[str, Any] = _read_file(kind, path, must_exist=explicit is not None)
    hints = typing.get_type_hints(kind)
    _check_variables(kind, service, environ)
    for name in (f.name for f in dataclasses.fields(kind)):
        for variable in (f"SAMPAN_{name}", f"SAMPAN_{service}_{name}"):
            text = environ.get(variable.upper())
            if text is not None:
                values[name] = _from_text(text, hints[name], variable.upper())
    values |= {name: _from_text(text, hints[name], f"--{name.replace('_', '-')}") for name, text in flags.items()}
    config = kind(**values)
    return dataclasses.replace(config, data_root=config.data_root.absolute(), run_root=config.run_root.absolute())


def check_files(directory: Path) -> None:
    """Raise InvalidArgumentError for a file that looks like a service's configuration and that none reads."""
    for path in sorted(directory.glob("*.toml")):
        if path.stem not in ALL:
            import difflib

            near = difflib.get_close_matches(path.stem, ALL, 1, cutoff=0.5)
            hint = f"did you mean {near[0]}.toml?" if near else f"there are {', '.join(f'{name}.toml' for name in ALL)}"
            raise InvalidArgumentError(f"config file {path} is no service's: {hint}")


def _check_variables(kind: type[Any], service: str, environ: Mapping[str, str]) -> None:
    """Refuse a variable for this service that sets nothing. One for all may be meant for the others alone."""
    prefix = f"SAMPAN_{service}_".upper()
    for variable in environ:
        if variable.startswith(prefix):
            _check_known(kind, variable.removeprefix(prefix).lower(), variable)


def _parse_flags(kind: type[C], service: str, argv: Sequence[str]) -> dict[str, str]:
    fields = {f"--{f.name.replace('_', '-')}": f for f in dataclasses.fields(kind) if "help" in f.metadata}
    names, values = argv[::2], argv[1::2]
    if len(names) == len(values) and fields.keys() >= set(names) and not any(v.startswith("-") for v in values):
        return {fields[name].name: value for name, value in zip(names, values, strict=True)}
    import argparse  # half a megabyte that a service does without when `sampan up` starts it, as it usually is

    parser = argparse.ArgumentParser(prog=service, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config", metavar="FILE", help="TOML file to read instead of the default one")
    for name, f in fields.items():
        parser.add_argument(name, metavar="VALUE", help=f.metadata["help"])
    return vars(parser.parse_args(list(argv)))


def _read_file(kind: type[C], path: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        if must_exist:
            raise InvalidArgumentError(f"config file {path} does not exist") from None
        return {}
    except OSError as error:
        raise InvalidArgumentError(f"config file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"config file {path} is not TOML: byte {error.start} is not UTF-8") from error
    import tomllib  # few engines have such a file

    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgumentError(f"config file {path} is not TOML: {error}") from error
    return _from_table(kind, table, str(path), "")


def _from_table(kind: type[Any], table: Mapping[str, Any], where: str, prefix: str) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in table.items():
        _check_known(kind, key, where, prefix)
        values[key] = _from_toml(value, hints[key], where, prefix + key)
    return values


def _check_known(kind: type[Any], key: str, where: str, prefix: str = "") -> None:
    known = [f.name for f in dataclasses.fields(kind)]
    if key not in known:
        import difflib

        near = difflib.get_close_matches(key, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        raise InvalidArgumentError(f"{where}: unknown key {prefix + key!r}: {hint}")


def _from_toml(value: Any, hint: Any, where: str, key: str) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, dict):
            return _build(hint, value, where, key)
    elif typing.get_origin(hint) is tuple:
        if isinstance(value, list):
            (item, *_) = typing.get_args(hint)
            return tuple(_from_toml(one, item, where, f"{key}[{i}]") for i, one in enumerate(value))
    elif typing.get_origin(hint) in (types.UnionType, typing.Union):
        return _from_toml(value, typing.get_args(hint)[0], where, key)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint in (int, float) and type(value) in (int, hint):
        if _counts(value):
            return hint(value)
    elif type(value) is hint:
        return value
    raise InvalidArgumentError(f"{where}: {key!r} is {value!r}, expected {_describe(hint)}")


def _build(kind: type[Any], table: Mapping[str, Any], where: str, key: str) -> Any:
    values = _from_table(kind, table, where, f"{key}.")
    for each in dataclasses.fields(kind):
        if each.default is each.default_factory is dataclasses.MISSING and each.name not in values:
            raise InvalidArgumentError(f"{where}: table {key!r} has no {each.name!r}, which is required")
    return kind(**values)


def _from_text(text: str, hint: Any, where: str) -> Any:
    """Convert a variable's or a flag's text."""
    if typing.get_origin(hint) is tuple and typing.get_args(hint)[0] is str:
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        hint = typing.get_args(hint)[0]
    if hint is bool:
        if text.lower() in ("true", "1", "yes", "on"):
            return True
        if text.lower() in ("false", "0", "no", "off"):
            return False
    elif hint in (int, float):
        with contextlib.suppress(ValueError):
            if _counts(number := hint(text)):
                return number
    elif hint in (str, Path):
        return hint(text)
    raise InvalidArgumentError(f"{where} is {text!r}, expected {_describe(hint)}")


def _counts(number: float) -> bool:
    """Whether it can be a number of anything: all that is configured is sizes, counts and durations."""
    return number >= 0 and math.isfinite(number)


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        return "a list"
    if dataclasses.is_dataclass(hint):
        return "a table"
    words = {
        str: "text", int: "a whole number of 0 or more", float: "a number of 0 or more", bool: "true or false",
        Path: "a path",
    }  # fmt: skip
    return words.get(hint, str(hint))
