"""What a ``daemon.json`` comes to: files of the services, and what is to be said of the rest.

The files are TOML, of which only a part is needed: keys with texts, numbers, booleans and lists of texts, and tables.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from sampan.json_types import JsonObject


@dataclass(slots=True)
class Translation:
    """What a ``daemon.json`` comes to."""

    files: dict[str, JsonObject] = field(default_factory=dict)  # by service: keys and values
    without: list[str] = field(default_factory=list)  # what has no equivalent, each with its reason
    notes: list[str] = field(default_factory=list)  # what should be looked at

    def set(self, service: str, key: str, value: object) -> None:
        """Add a key of a service's file."""
        self.files.setdefault(service, {})[key] = value

    def registry(self, host: str) -> JsonObject:
        """Return the table of a registry."""
        tables: list[JsonObject] = self.files.setdefault("imaged", {}).setdefault("registries", [])
        for table in tables:
            if table["host"] == host:
                return table
        tables.append({"host": host})
        return tables[-1]

    def texts(self) -> dict[str, str]:
        """Return each service's file."""
        return {service: _toml(keys) for service, keys in sorted(self.files.items())}


def _toml(keys: Mapping[str, object]) -> str:
    """Return a file's text. Booleans, numbers, texts and lists are written alike in JSON and TOML."""
    plain = {key: value for key, value in keys.items() if not _is_tables(value)}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    for key, value in keys.items():
        if _is_tables(value):
            lines += _tables(key, value)
    return "\n".join(lines) + "\n"


def _tables(path: str, tables: list[JsonObject]) -> list[str]:
    lines = []
    for table in tables:
        lines += ["", f"[[{path}]]"]
        lines += [
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items() if not _is_tables(value)
        ]
        for key, value in table.items():
            if _is_tables(value):
                lines += _tables(f"{path}.{key}", value)
    return lines


def _is_tables(value: object) -> TypeGuard[list[JsonObject]]:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
