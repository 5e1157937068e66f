"""What an engine's directories tell of it, for clients that have none of them, and the same laid out for their use.

Most of an engine is asked of its services. What they note for others to read, and where they are, is in files: it
comes as one document, and becomes such files again in a directory of the client's.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from sampan.errors import RemoteError
from sampan.json_types import JsonObject
from sampan.layout import Layout
from sampan.service.set_aside import FILE, read_set_aside
from sampan.services import ALL

_REGISTRY: Final = "registryd"
_REGISTRY_ROWS: Final = "registry.db"  # as ``client.services`` looks for it
_NAMES: Final = frozenset(ALL)


def told(layout: Layout) -> JsonObject:
    """Return the document; blocks."""
    return {
        "DataRoot": str(layout.data_root),
        "RunRoot": str(layout.run_root),
        "Problems": {name: problems for name in ALL if (problems := layout.problems(name))},
        "SetAside": [asdict(one) for one in read_set_aside(layout, ALL)],
        "PrivateRegistry": (layout.data(_REGISTRY) / _REGISTRY_ROWS).exists(),
    }


def laid_out(document: JsonObject, directory: Path) -> Layout:
    """Write what ``document`` tells into ``directory`` and return the layout there; blocks.

    Raises:
        RemoteError: it is no such document.
    """
    try:
        there = Layout(Path(document["DataRoot"]), Path(document["RunRoot"]))
        layout = Layout(directory / "data", directory, there)
        problems: Mapping[str, list[str]] = document["Problems"]
        for name in _NAMES & problems.keys():
            layout.state_file(name).write_text(json.dumps({"problems": problems[name]}))
        for name in _NAMES:
            layout.run(name).mkdir()
            aside = [one for one in document["SetAside"] if one["service"] == name]
            (layout.run(name) / FILE).write_text(json.dumps(aside))
        if document["PrivateRegistry"]:
            layout.data(_REGISTRY).mkdir(parents=True)
            (layout.data(_REGISTRY) / _REGISTRY_ROWS).touch()
    except (KeyError, TypeError, AttributeError) as error:
        raise RemoteError(f"the engine says of itself what is not understood: {error!r}") from error
    return layout
