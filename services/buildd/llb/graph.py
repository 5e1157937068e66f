"""Build and rewrite graphs of operations.

``SourceOp`` attributes are those of moby/buildkit, solver/pb/attr.go; lists in them are JSON.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from buildd.llb.ops import (
    NO_INPUT,
    NO_OUTPUT,
    Copy,
    Edge,
    FileAction,
    FileOp,
    MakeDirectory,
    MakeFile,
    Metadata,
    Node,
    Owner,
    SourceOp,
)
from sampan.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class Change:
    """A change of files; a ``Copy`` takes them from ``source``, None being the empty tree."""

    action: Copy | MakeFile | MakeDirectory
    source: Edge | None = None


def change_files(
    base: Edge | None, changes: Sequence[Change], metadata: Metadata, platform: Platform | None = None
) -> Edge:
    """Return ``base`` after ``changes``, one after another. Users and groups by name are looked up in ``base``."""
    inputs: list[Edge] = []
    first = add_input(inputs, base)
    sources = [add_input(inputs, change.source) for change in changes]
    actions = []
    for number, (change, source) in enumerate(zip(changes, sources, strict=True)):
        last = number == len(changes) - 1
        actions.append(
            FileAction(
                _with_lookup(change.action, first),
                input=first if number == 0 else len(inputs) + number - 1,
                secondary_input=source,
                output=0 if last else NO_OUTPUT,
            )
        )
    return Node(FileOp(tuple(actions)), tuple(inputs), platform, metadata).output()


def _with_lookup(action: Copy | MakeFile | MakeDirectory, base: int) -> Copy | MakeFile | MakeDirectory:
    owner = action.owner
    if owner is None:
        return action
    user = replace(owner.user, input=base) if owner.user and owner.user.number is None else owner.user
    group = replace(owner.group, input=base) if owner.group and owner.group.number is None else owner.group
    return replace(action, owner=Owner(user, group))


def add_input(inputs: list[Edge], edge: Edge | None) -> int:
    """Return the index of ``edge`` among ``inputs``, where it is put if it is not there; ``NO_INPUT`` for None."""
    if edge is None:
        return NO_INPUT
    if edge not in inputs:
        inputs.append(edge)
    return inputs.index(edge)


def image(reference: str, platform: Platform, mode: str, metadata: Metadata) -> Edge:
    """Return an image's files; ``mode`` is as in ``ImageQuery``."""
    attributes = {} if mode == "default" else {"image.resolvemode": mode}
    return Node(SourceOp(f"docker-image://{reference}", attributes), (), platform, metadata).output()


def oci_layout(reference: str, store: str, platform: Platform, metadata: Metadata) -> Edge:
    """Return the files of an image in an OCI layout that the client has."""
    attributes = {"oci.store": store}
    return Node(SourceOp(f"oci-layout://{reference}", attributes), (), platform, metadata).output()


@dataclass(frozen=True, slots=True)
class LocalDirectory:
    """A directory of the client, or the part of it that is named."""

    name: str
    shared_key: str  # directories with the same key are sent as the difference from each other
    follow: tuple[str, ...] = ()  # paths that are sent, wildcards allowed, and what their links lead to; empty: all
    exclude: tuple[str, ...] = ()  # as in .dockerignore
    compare: bool = True  # ask for what has changed; else for everything
    session: str = ""  # of another client than the one that builds


def local(directory: LocalDirectory, metadata: Metadata) -> Edge:
    """Return the files of a client's directory."""
    attributes = {"local.sharedkeyhint": directory.shared_key}
    if directory.follow:
        attributes["local.followpaths"] = json.dumps(list(directory.follow))
    if directory.exclude:
        attributes["local.excludepatterns"] = json.dumps(list(directory.exclude))
    if not directory.compare:
        attributes["local.differ"] = "none"
    if directory.session:
        attributes["local.sessionid"] = directory.session
    return Node(SourceOp(f"local://{directory.name}", attributes), (), None, metadata).output()


def download(url: str, file_name: str, metadata: Metadata, checksum: str = "") -> Edge:
    """Return a tree of one file, the one that ``url`` leads to."""
    attributes = {"http.filename": file_name} | ({"http.checksum": checksum} if checksum else {})
    return Node(SourceOp(url, attributes), (), None, metadata).output()


def substitute(edge: Edge | None, replacements: Mapping[Node, Edge]) -> Edge | None:
    """Return the graph of ``edge`` with nodes replaced: what leads out of a node leads out of its replacement then."""
    if edge is None or not replacements:
        return edge
    done: dict[int, Node] = {}
    kept: list[Node] = [edge.node]
    while kept:
        node = kept[-1]
        missing = [each.node for each in node.inputs if id(each.node) not in done and each.node not in replacements]
        if missing and node not in replacements:
            kept += missing
            continue
        kept.pop()
        if id(node) in done or node in replacements:
            continue
        inputs = tuple(replacements.get(each.node) or Edge(done[id(each.node)], each.index) for each in node.inputs)
        done[id(node)] = node if inputs == node.inputs else replace(node, inputs=inputs)
    return replacements.get(edge.node) or Edge(done[id(edge.node)], edge.index)
