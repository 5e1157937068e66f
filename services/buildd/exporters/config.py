"""The config of an image that was built: what the frontend says, and which layers it came to.

Reference: OCI image spec 1.1, "Image Configuration".
"""

import base64
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import takewhile
from typing import Final

from buildd.protocol import Tree
from sampan.errors import InvalidArgumentError
from sampan.json_types import JsonObject
from sampan.oci.digest import Digest
from sampan.oci.json_documents import load_json
from sampan.oci.manifest_document import platform_members
from sampan.oci.platform import Platform

_CACHE_MEMBER: Final = "moby.buildkit.cache.v0"
_COMMENT: Final = "buildkit.exporter.image.v0"
_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Times:
    """Times that an image tells, in nanoseconds since the epoch."""

    now_ns: int
    made_ns: Mapping[Digest, int] = field(default_factory=dict)  # of layers, by diff ID, as far as they were made here
    epoch_s: int | None = None  # none is told that is later, but those of the base image
    base_lines: int = 0  # of the history, which are the base image's


@dataclass(frozen=True, slots=True)
class Base:
    """What is known of the image that a result stands on."""

    diff_ids: tuple[str, ...] = ()
    history: tuple[JsonObject, ...] = ()

    def unchanged_layers(self, tree: Tree) -> Collection[Digest]:
        """Return the layers of ``tree`` that are the base's own, by diff ID."""
        pairs = takewhile(lambda pair: pair[0].diff_id == pair[1], zip(tree.layers, self.diff_ids, strict=False))
        return [layer.diff_id for layer, _ in pairs]


def parse_base(config: bytes) -> Base:
    """Read the config of a base image; empty: there is none. InvalidArgumentError: it is no config."""
    document = load_json(config, "the base image's config") if config else {}
    if not isinstance(document, dict):
        raise InvalidArgumentError("the base image's config is not an object")
    return Base(tuple((document.get("rootfs") or {}).get("diff_ids") or ()), tuple(document.get("history") or ()))


def finish_config(said: bytes, tree: Tree, platform: Platform, times: Times, inline_cache: bytes = b"") -> bytes:
    """Return the config of the image of ``tree``.

    Args:
        said: what the frontend says; empty where a client gave a graph and nothing else.
        tree: the image's files.
        platform: for an image of which nothing is said.
        times: when its layers were made, which are the times of its history; the last one is that of the image.
        inline_cache: where its layers come from, for a build that is given the image as a cache.

    Raises:
        InvalidArgumentError: what the frontend says is no config.
    """
    document = _document(said, platform)
    diff_ids = [layer.diff_id for layer in tree.layers]
    document["rootfs"] = {"type": "layers", "diff_ids": diff_ids}
    history = _history(document.get("history") or [], tree, times)
    history = [
        line if number < times.base_lines else {**line, "created": _clamped(line["created"], times.epoch_s)}
        for number, line in enumerate(history)
    ]
    document["history"] = history
    if document.get("created"):
        document["created"] = _clamped(document["created"], times.epoch_s)
    else:
        document["created"] = next((line["created"] for line in reversed(history) if line.get("created")), None)
        document["created"] = document["created"] or _moment(times.now_ns)
    document.pop(_CACHE_MEMBER, None)  # a base image's own
    if inline_cache:
        document[_CACHE_MEMBER] = base64.b64encode(inline_cache).decode()
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _document(said: bytes, platform: Platform) -> JsonObject:
    if not said:
        return {**platform_members(platform), "config": {"Env": [_PATH], "WorkingDir": "/"}}
    document = load_json(said, "the image's config")
    if not isinstance(document, dict):
        raise InvalidArgumentError("the image's config is not an object")
    return dict(document)


def _history(lines: Sequence[JsonObject], tree: Tree, times: Times) -> list[JsonObject]:
    """Return the history, in which a line that made no layer says so: readers count layers by it.

    A line without a time has its layer's; one without a layer has that of the line before it, or of the first layer
    that was made here.
    """
    made = list(_made(tree))
    steps = sum(not line.get("empty_layer") for line in lines)
    if steps > len(made):  # a frontend that says more than it does: its last lines are what came to nothing
        made += [False] * (steps - len(made))
    outcomes = iter(made)
    told = [line if line.get("empty_layer") else _with(line, layer=next(outcomes)) for line in lines]
    told += [{"comment": _COMMENT} for layer in outcomes if layer]
    layers_ns = [times.made_ns.get(layer.diff_id, 0) for layer in tree.layers]
    last = _moment(next(filter(None, layers_ns), times.now_ns))
    left_ns = iter(layers_ns)
    ours = False  # the lines of the base image are before
    dated = []
    for line in told:
        time_ns = 0 if line.get("empty_layer") else next(left_ns)
        own = line.get("created") or (_moment(time_ns) if time_ns else "")
        ours = ours or not line.get("created")
        last = own if own and ours else last
        dated.append({**line, "created": own or last})
    return dated


def _with(line: JsonObject, *, layer: bool) -> JsonObject:
    return line if layer else {**line, "empty_layer": True}


def _made(tree: Tree) -> Iterator[bool]:
    """Yield for each step, in order, whether it made a layer."""
    unchanged = list(tree.unchanged)
    for below in range(len(tree.layers) + 1):
        while unchanged and unchanged[0] == below:
            unchanged.pop(0)
            yield False
        if below < len(tree.layers):
            yield True


def _clamped(moment: str, epoch_s: int | None) -> str:
    """Return a time, or the epoch if that is earlier; what is no time is left as it is."""
    if epoch_s is None:
        return moment
    try:
        later = datetime.fromisoformat(moment).timestamp() > epoch_s
    except ValueError:
        return moment
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if later else moment


def _moment(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{time_ns % 10**9:09d}Z"
