"""Families of metrics in the Prometheus text format, for those that are read anew at each scrape and kept by nobody."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client.utils import floatToGoString

_SPECIAL: Final = re.compile(r'[\\"\n]')
_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n"}


def label_text(labels: Mapping[str, str]) -> str:
    """Return labels as the exposition writes them between braces."""
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())


def family_text(name: str, help: str, type: str, samples: Iterable[tuple[str, float]]) -> str:
    """Return one family as the exposition writes it; a sample's labels are as ``label_text`` made them."""
    lines = [f"# HELP {name} {help}\n# TYPE {name} {type}\n"]
    lines += [
        f"{name}{{{labels}}} {_number(value)}\n" if labels else f"{name} {_number(value)}\n"
        for labels, value in samples
    ]
    return "".join(lines)


def _number(value: float) -> str:
    return str(floatToGoString(value))  # type: ignore[no-untyped-call]  # the client's own is not typed


def _escaped(value: str) -> str:
    return _SPECIAL.sub(lambda match: _ESCAPES[match.group()], value) if _SPECIAL.search(value) else value
