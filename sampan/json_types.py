"""JSON objects as parsers return them and views build them: members of any type, known by name where they are used."""

from typing import Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]
