"""Read a network configuration from the directory where Kubernetes' networks put it.

The lexically first of ``*.conflist``, ``*.conf`` and ``*.json`` counts. If that one cannot be understood there is no
network: pods that quietly come into the next one, another program's perhaps, would be worse than none.

Reference: CNI specification 1.1, section 1; ``loadOnlyInlinedPlugins`` and plugins in ``<directory>/<name>/*.conf`` are
of the version after it, and administrators have them already.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from crid.cni.model import VERSIONS, Network, Plugin, Unusable, at_least
from sampan.json_types import JsonObject

_SUFFIXES: Final = frozenset({".conflist", ".conf", ".json"})
_MAX_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
_VERSION: Final = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}")


class _WrongError(ValueError):
    """What a file says is no configuration; in a sentence that names the place."""


def load(directory: Path) -> Network | Unusable:
    """Return the network of a directory; blocks."""
    try:
        files = sorted(
            path for path in directory.iterdir() if path.suffix in _SUFFIXES and not path.name.startswith(".")
        )
        files = [path for path in files if path.is_file()]
    except FileNotFoundError:
        return Unusable(f"no network configuration: there is no directory {directory}")
    except OSError as error:
        return Unusable(f"no network configuration: {directory}: {error.strerror}")
    if not files:
        return Unusable(f"no network configuration in {directory}: a network plugin puts its *.conflist there")
    try:
        return _read(files[0])
    except OSError as error:
        return Unusable(f"network configuration {files[0]}: {error.strerror}")
    except _WrongError as error:
        return Unusable(f"network configuration {files[0]}: {error}")


def network_of(document: JsonObject, source: Path, *, listed: bool) -> Network:
    """Return the network that a document describes; ``listed``: it has a list of plugins, and is none itself.

    Raises:
        ValueError: it cannot be understood; the sentence says where.
    """
    name = document.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _WrongError(f"name is {_shown(name)}: letters, digits, '_', '.' and '-' make a name")
    further: list[JsonObject] = []
    if not listed:
        documents: object = [document]
    else:
        documents = document.get("plugins", [])
        if not _flag(document, "loadOnlyInlinedPlugins"):
            further = [_object(path) for path in _beside(source.parent / name)]
    if not isinstance(documents, list):
        raise _WrongError("plugins is not a list")
    plugins = tuple(_plugin(each, number) for number, each in enumerate([*documents, *further]))
    if not plugins:
        raise _WrongError("it has no plugins")
    return Network(
        name,
        _versions(document),
        plugins,
        source,
        disable_check=_flag(document, "disableCheck"),
        disable_gc=_flag(document, "disableGC"),
    )


def _read(path: Path) -> Network:
    document = _object(path)
    # A list may come as ``.json`` or ``.conf`` too; what has plugins is one.
    return network_of(document, path, listed=path.suffix == ".conflist" or "plugins" in document)


def _object(path: Path) -> JsonObject:
    with path.open("rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise _WrongError(f"it is larger than {_MAX_BYTES >> 20} MiB")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _WrongError(f"{path.name} is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise _WrongError(f"{path.name} is not a JSON object")
    return document


def _beside(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".conf" and path.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _plugin(document: object, number: int) -> Plugin:
    where = f"plugin {number + 1}"
    if not isinstance(document, dict):
        raise _WrongError(f"{where} is not an object")
    kind = document.get("type")
    # It becomes the name of a program that root runs.
    if not isinstance(kind, str) or not _NAME.fullmatch(kind):
        raise _WrongError(f"{where} has type {_shown(kind)}: it names a program, without its directory")
    capabilities = document.get("capabilities") or {}
    if not isinstance(capabilities, dict) or not all(isinstance(value, bool) for value in capabilities.values()):
        raise _WrongError(f"capabilities of {where} are not an object of booleans")
    return Plugin(kind, document, frozenset(name for name, wanted in capabilities.items() if wanted))


def _versions(document: JsonObject) -> tuple[str, ...]:
    listed = document.get("cniVersions", [])
    if not isinstance(listed, list):
        raise _WrongError("cniVersions is not a list")
    said = [*listed, *([document["cniVersion"]] if "cniVersion" in document else [])]
    for version in said:
        if not isinstance(version, str) or not _VERSION.fullmatch(version):
            raise _WrongError(f"{_shown(version)} is no version of CNI")
    spoken = tuple(version for version in VERSIONS if version in said)
    if not spoken:
        words = ", ".join(said) or "none, which means 0.1.0"
        raise _WrongError(f"cniVersion is {words}: {VERSIONS[0]} to {VERSIONS[-1]} are spoken here")
    return spoken


def _flag(document: Mapping[str, object], name: str) -> bool:
    value = document.get(name, False)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise _WrongError(f"{name} is {_shown(value)}: true or false")
    return value


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:80] + "…"


def best_version(network: Network, supported: Mapping[str, frozenset[str]]) -> str | Unusable:
    """Return the latest version that a configuration allows and all of its plugins speak."""
    for version in reversed(network.versions):
        if all(version in supported[plugin.type] for plugin in network.plugins):
            return version
    for plugin in network.plugins:
        if not supported[plugin.type].intersection(network.versions):
            spoken = sorted((each for each in supported[plugin.type] if _VERSION.fullmatch(each)), key=_order)
            return Unusable(
                f"network configuration {network.source} is for CNI {' or '.join(network.versions)}; "
                f"plugin {plugin.type} speaks {', '.join(spoken) or 'no version'}"
            )
    return Unusable(
        f"network configuration {network.source} is for CNI {' or '.join(network.versions)}; "
        "none of these is spoken by all of its plugins"
    )


def _order(version: str) -> int:
    return sum(at_least(version, each) for each in ("0.2.0", *VERSIONS))
