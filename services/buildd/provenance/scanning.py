"""What else is said of a build's outputs: software bills of materials, and the attestations of frontends.

A *generator* is an image that looks at files and writes statements of in-toto: it is run as a step, like any other.

Reference: moby/buildkit, docs/attestations/sbom-protocol.md; in-toto attestation framework v1.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from buildd.exporters.protocol import Attestation
from buildd.llb.ops import ExecOp, Metadata, Mount, MountType, Node, Process, SourceOp
from buildd.protocol import FileWorker, ImageQuery, Output, ResolvedImage, Result, Said
from buildd.provenance.options import SbomOptions
from sampan.errors import InvalidArgumentError, NotFoundError, RemoteError, SampanError
from sampan.json_types import JsonObject
from sampan.oci.config_document import parse_config
from sampan.oci.json_documents import load_json
from sampan.oci.platform import Platform, host_platform
from sampan.oci.reference import parse_reference

SBOMS: Final = frozenset(("https://spdx.dev/Document", "https://cyclonedx.org/bom"))

_CORE: Final = "sbom"
_SOURCE: Final = f"/run/src/core/{_CORE}"
_EXTRAS: Final = "/run/src/extras"
_DESTINATION: Final = "/run/out"
_PROVENANCE: Final = "https://slsa.dev/provenance/"
_MAX_STATEMENTS: Final = 100  # of one output
_MAX_BYTES: Final = 16 << 20  # of one statement
_NOT_REGULAR: Final = 0x8F280000  # directories, links, devices, pipes, sockets, and what else is no file

Resolve = Callable[[ImageQuery], Awaitable[ResolvedImage]]
Solve = Callable[[Result], Awaitable[Mapping[str, Output | None]]]


async def scanned(
    result: Result, options: SbomOptions, platforms: Sequence[tuple[str, Platform]], resolve: Resolve, mode: str
) -> Result:
    """Return a result of which is said what the generator finds; one of which it is said already stays as it is.

    Raises:
        RemoteError: the generator cannot be had.
        InvalidArgumentError: it says not what to run.
    """
    if any(each.predicate_type in SBOMS for said in result.said.values() for each in said):
        return result
    reference = str(parse_reference(options.generator).with_default_tag())
    try:
        found = await resolve(ImageQuery(reference, host_platform(), mode))
    except SampanError as error:
        raise RemoteError(
            f"SBOM generator {options.generator} cannot be had: {error}; another one is named by "
            "--attest type=sbom,generator=IMAGE"
        ) from error
    config = parse_config(found.config, options.generator).run
    if not (*config.entrypoint, *config.cmd):
        raise InvalidArgumentError(f"scanner {options.generator} does not have cmd")
    known = found.digest is None or parse_reference(found.reference).digest is not None
    identifier = f"docker-image://{found.reference}" + ("" if known else f"@{found.digest}")
    generator = Node(SourceOp(identifier), platform=host_platform(), metadata=Metadata(identifier)).output()
    said = dict(result.said)
    for key, platform in platforms:
        core = result.edges[key]
        if core is None:
            continue
        extras = dict(sorted(result.extras.get(key, {}).items()))
        env = [
            *config.env,
            f"BUILDKIT_SCAN_DESTINATION={_DESTINATION}/",
            f"BUILDKIT_SCAN_SOURCE={_SOURCE}",
            *([f"BUILDKIT_SCAN_SOURCE_EXTRAS={_EXTRAS}"] if extras else []),
            *(f"BUILDKIT_SCAN_{name}={value}" for name, value in sorted(options.parameters.items())),
        ]
        mounts = (
            Mount("/", input=0),
            Mount("/tmp", MountType.TMPFS),  # noqa: S108 - the generator's own
            Mount(_SOURCE, input=1, read_only=True),
            *(
                Mount(f"{_EXTRAS}/{_CORE}-{name}", input=2 + number, read_only=True)
                for number, name in enumerate(extras)
            ),
            Mount(_DESTINATION, output=0),
        )
        process = Process((*config.entrypoint, *config.cmd), tuple(env), config.working_dir or "/")
        name = Metadata(f"[{platform}] generating sbom using {found.reference}", ignore_cache=options.ignore_cache)
        step = Node(ExecOp(process, mounts), (generator, core, *extras.values()), host_platform(), name)
        said[key] = (*said.get(key, ()), Said(step.output(), bundle=True))
    return replace(result, said=said)


async def statements(
    result: Result, platforms: Sequence[tuple[str, Platform]], solve: Solve, files: FileWorker
) -> Mapping[str, tuple[Attestation, ...]]:
    """Return what is said of each output, bills of materials of the output itself first.

    Raises:
        InvalidArgumentError: something that is said is no statement, or is for the builder alone to say.
        SampanError: what it is read from cannot be made.
    """
    told: dict[str, tuple[Attestation, ...]] = {}
    keys = {key: key for key, _ in platforms} | {str(platform): key for key, platform in platforms}
    for key, said in result.said.items():
        if key not in keys:
            raise InvalidArgumentError(f"the result has an attestation of {key}, which is none of its platforms")
        outputs = await solve(Result({str(number): each.edge for number, each in enumerate(said)}))
        found: list[Attestation] = []
        for output, each in zip(outputs.values(), said, strict=True):
            if output is None:
                raise InvalidArgumentError("an attestation of a frontend has nothing in it")
            found += await (_bundle(output, each, files) if each.bundle else _single(output, each, files))
        if any(one.predicate_type.startswith(_PROVENANCE) for one in found):
            raise InvalidArgumentError("frontend may not set provenance attestations")
        found.sort(key=lambda each: each.file_name.partition(".")[0] != _CORE)
        told[keys[key]] = (*told.get(keys[key], ()), *found)
    return told


async def _single(output: Output, said: Said, files: FileWorker) -> list[Attestation]:
    if not said.path.strip("/"):
        raise InvalidArgumentError("attestation does not have set path")
    predicate = load_json(await files.read_file(output, said.path), f"attestation {said.path}")
    name = said.path.rpartition("/")[2]
    return [Attestation(said.predicate_type, json.dumps(predicate).encode(), name, subjects=said.subjects)]


async def _bundle(output: Output, said: Said, files: FileWorker) -> list[Attestation]:
    directory = said.path.rstrip("/")
    try:
        entries = await files.read_directory(output, directory or "/")
    except NotFoundError:
        if directory:
            raise
        entries = []
    if len(entries) > _MAX_STATEMENTS:
        raise InvalidArgumentError(f"{len(entries)} statements are too many: {_MAX_STATEMENTS} are the most")
    found = []
    for entry in entries:
        name = entry.path.rpartition("/")[2]
        if entry.mode & _NOT_REGULAR or entry.size > _MAX_BYTES:
            raise InvalidArgumentError(f"statement {name} is no file, or has more than {_MAX_BYTES} bytes")
        document = load_json(await files.read_file(output, f"{directory}/{name}"), f"statement {name}")
        kind = document.get("predicateType") if isinstance(document, dict) else None
        if not isinstance(document, dict) or not isinstance(kind, str) or not kind or "predicate" not in document:
            raise InvalidArgumentError(f"{name} is no statement of in-toto: it has no predicate, or no type of one")
        if said.predicate_type and kind != said.predicate_type:
            raise InvalidArgumentError(
                f"bundle entry {kind} does not match required predicate type {said.predicate_type}"
            )
        subjects = tuple(_subjects(document.get("subject"), name))
        found.append(Attestation(kind, json.dumps(document["predicate"]).encode(), name, subjects=subjects))
    return found


def _subjects(listed: object, name: str) -> Sequence[JsonObject]:
    found = listed or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise InvalidArgumentError(f"{name} is no statement of in-toto: its subjects are none")
    return [{"name": each.get("name", ""), "digest": each.get("digest", {})} for each in found]
