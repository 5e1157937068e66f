"""SLSA's predicates: how a result came to be.

Reference: SLSA provenance v1 and v0.2; moby/buildkit, docs/attestations/slsa-definitions.md.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from buildd.provenance.materials import Materials, commit_set, digest_set, redacted
from buildd.provenance.options import ProvenanceOptions
from sampan.json_types import JsonObject
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform

_TYPES: Final = {"v1": "https://slsa.dev/provenance/v1", "v0.2": "https://slsa.dev/provenance/v0.2"}
_BUILD_TYPE_1: Final = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_BUILD_TYPE_02: Final = "https://mobyproject.org/buildkit@v1"

# What depends on the builder or its host, and says nothing of the result.
_HOST_ATTRIBUTES: Final = frozenset(("cgroup-parent", "image-resolve-mode", "platform", "cache-imports", "cache-from"))
_VCS: Final = "vcs:"


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """A graph, step by step, and the files that its lines are in."""

    steps: Sequence[JsonObject] = ()
    digests: Mapping[str, str] = field(default_factory=dict)  # what steps are called, by their vertexes' digests
    source: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """What a client asked for, and what came together."""

    frontend: str
    attributes: Mapping[str, str]
    materials: Materials
    builder: Platform
    target: Platform
    begun_ns: int
    ended_ns: int
    invocation: str = field(default_factory=lambda: secrets.token_hex(12))


def predicate_type(options: ProvenanceOptions) -> str:
    """Return the URI that says what a predicate is."""
    return _TYPES[options.version]


def render_predicate(
    origin: Origin,
    options: ProvenanceOptions,
    config: BuildConfig | None = None,
    layers: Mapping[str, Sequence[Sequence[JsonObject]]] | None = None,
) -> JsonObject:
    """Return a predicate.

    Args:
        origin: what it is about.
        options: how it is told.
        config: the graph; None with ``mode=min``.
        layers: of the graph's steps, by ``step<number>:<output>``: each a list of layers, base first.
    """
    predicate = _version_1(origin, options, config, layers or {})
    return predicate if options.version == "v1" else _version_02(predicate)


def _version_1(
    origin: Origin,
    options: ProvenanceOptions,
    config: BuildConfig | None,
    layers: Mapping[str, Sequence[Sequence[JsonObject]]],
) -> JsonObject:
    materials = origin.materials
    arguments, vcs, source = _arguments(origin)
    kept = arguments if options.everything else _without_values(arguments)
    request = _filled(
        frontend=origin.frontend,
        args=kept,
        secrets=[_listed(*each) for each in sorted(materials.secrets.items())] if options.everything else [],
        ssh=[_listed(*each) for each in sorted(materials.agents.items())] if options.everything else [],
        locals=[{"name": name} for name in sorted(materials.directories)],
    )
    internal: JsonObject = {"builderPlatform": str(origin.builder), "targetPlatform": str(origin.target)}
    told: JsonObject = {"vcs": vcs} if vcs else {}
    if config is not None:
        internal["buildConfig"] = _filled(llbDefinition=list(config.steps), digestMapping=dict(config.digests))
        told |= _filled(source=config.source, layers={name: list(each) for name, each in layers.items()})
    metadata: JsonObject = {
        "invocationId": origin.invocation,
        "startedOn": moment(origin.begun_ns),
        "finishedOn": moment(origin.ended_ns),
        "buildkit_metadata": told,
        "buildkit_completeness": {
            "request": bool(origin.frontend) and len(kept) == len(arguments),
            "resolvedDependencies": materials.complete,
        },
        **_filled(
            buildkit_hermetic=materials.complete and not materials.network, buildkit_reproducible=options.reproducible
        ),
    }
    return {
        "buildDefinition": {
            "buildType": _BUILD_TYPE_1,
            **_filled(resolvedDependencies=list(materials.listed())),
            "externalParameters": {"configSource": source, "request": request},
            "internalParameters": internal,
        },
        "runDetails": {"builder": {"id": options.builder_id}, "metadata": metadata},
    }


def _version_02(predicate: JsonObject) -> JsonObject:
    definition, run = predicate["buildDefinition"], predicate["runDetails"]
    external, internal, metadata = definition["externalParameters"], definition["internalParameters"], run["metadata"]
    source = dict(external["configSource"])
    if "path" in source:
        source["entryPoint"] = source.pop("path")
    completeness = metadata["buildkit_completeness"]
    return {
        "builder": run["builder"],
        "buildType": _BUILD_TYPE_02,
        **_filled(materials=definition.get("resolvedDependencies", [])),
        "invocation": {
            "configSource": source,
            "parameters": external["request"],
            "environment": {"platform": internal["builderPlatform"]},
        },
        **_filled(buildConfig=internal.get("buildConfig")),
        "metadata": {
            "buildInvocationID": metadata["invocationId"],
            "buildStartedOn": metadata["startedOn"],
            "buildFinishedOn": metadata["finishedOn"],
            "completeness": {
                "parameters": completeness["request"],
                "environment": True,
                "materials": completeness["resolvedDependencies"],
            },
            "reproducible": metadata.get("buildkit_reproducible", False),
            f"{_BUILD_TYPE_02}#metadata": metadata["buildkit_metadata"],
            **({f"{_BUILD_TYPE_02}#hermetic": True} if metadata.get("buildkit_hermetic") else {}),
        },
    }


def _arguments(origin: Origin) -> tuple[dict[str, str], dict[str, str], JsonObject]:
    """Return a client's attributes, what it says of its repository, and where the Dockerfile is from."""
    given = origin.attributes
    key = given.get("contextkey") or "context"
    arguments = {
        name: redacted(value) if name == key or name.startswith("context:") else value
        for name, value in given.items()
        if name not in _HOST_ATTRIBUTES and not name.startswith("attest:")
    }
    vcs = {
        name.removeprefix(_VCS): redacted(value) if name == f"{_VCS}source" else value
        for name, value in arguments.items()
        if name.startswith(_VCS) and value
    }
    source: JsonObject = {}
    if given.get("contextkey") is None and given.get("input:context"):
        key = "input:context"
    if context := arguments.pop(key, ""):
        source = {"uri": context, **_filled(digest=_digest_of(context, origin.materials))}
    if name := arguments.pop("filename", ""):
        source["path"] = name
    return {name: value for name, value in arguments.items() if not name.startswith(_VCS)}, vcs, source


def _digest_of(context: str, materials: Materials) -> Mapping[str, str]:
    address, _, fragment = context.partition("#")
    ref = fragment.partition(":")[0]
    commit = materials.git.get(f"{address}#{ref}" if ref else address)
    if commit is not None:
        return commit_set(commit)
    download = materials.downloads.get(context)
    return digest_set(download) if download is not None else {}


def _without_values(arguments: Mapping[str, str]) -> dict[str, str]:
    """Leave out what may be nobody else's business."""
    return {name: value for name, value in arguments.items() if not name.startswith(("build-arg:", "label:"))}


def _listed(id: str, optional: bool) -> JsonObject:
    return {"id": id, "optional": True} if optional else {"id": id}


def _filled(**members: object) -> JsonObject:
    return {name: value for name, value in members.items() if value}


def moment(time_ns: int) -> str:
    """Return a time in nanoseconds since the epoch as RFC 3339 has it."""
    text = datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{time_ns % 10**9:09d}Z"


def named(digests: Mapping[str, str], digest: Digest, index: int) -> str | None:
    """Return what a graph's output is called; None: it is of another graph."""
    step = digests.get(digest)
    return f"{step}:{index}" if step is not None else None
