"""``dockerfile.v0``: a client's options and its Dockerfile to a graph and the config of the image.

Reference: moby/buildkit, docs/reference of the Dockerfile frontend; what a result is told with is in its
exporter/containerimage/exptypes.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence

from buildd.frontend import subrequests
from buildd.frontend.checks import Checks, parse_check_options
from buildd.frontend.contexts import Contexts, Dockerfile
from buildd.frontend.conversion import Conversion, Converted
from buildd.frontend.options import Options, known, parse_options
from buildd.frontend.stages import split
from buildd.llb.ops import Edge
from buildd.protocol import Bridge, FrontendError, Result
from sampan.build import plan
from sampan.build.request import NETWORK_MODE
from sampan.cancellation import together
from sampan.dockerfile.instructions import Instruction, parse_instructions
from sampan.dockerfile.source import (
    DockerfileError,
    EmptyDockerfileError,
    Lines,
    Source,
    Syntax,
    find_syntax,
    parse_source,
)
from sampan.errors import InvalidArgumentError, SampanError, UnimplementedError
from sampan.oci.config_document import render_config
from sampan.oci.platform import Platform
from sampan.oci.reference import parse_reference

# Frontend images that are this frontend.
_OURS = frozenset(("docker/dockerfile", "docker/dockerfile-upstream"))
_CAPABILITIES = frozenset(
    (
        "moby.buildkit.frontend.inputs",
        "moby.buildkit.frontend.subrequests",
        "moby.buildkit.frontend.contexts",
        "moby.buildkit.frontend.gitquerystring",
    )
)


class DockerfileFrontend:
    """Turns Dockerfiles into graphs. It keeps nothing between builds."""

    async def build(self, attributes: Mapping[str, str], inputs: Mapping[str, Edge], bridge: Bridge) -> Result:
        """Return the result's graph; nothing of it has run yet but what had to be read.

        Args:
            attributes: what the client asks for, under the names of ``options``.
            inputs: graphs that the client gives instead of directories.
            bridge: the build that asks.

        Raises:
            DockerfileError: with the file and its lines, which clients show; where something else led to it, such as
                an image that is not there, that is its ``__cause__``.
            InvalidArgumentError: an attribute, a target, a pattern or a context that cannot be.
            NotFoundError: no Dockerfile.
            UnimplementedError: a frontend or a request that is not this one's.
        """
        options = parse_options(known(attributes))
        if options.request == subrequests.DESCRIBE:
            return subrequests.describe()
        contexts = Contexts(options, inputs, bridge)
        dockerfile = await contexts.load_dockerfile()
        try:
            if (syntax := _foreign_syntax(options, dockerfile.data)) is not None:
                return await _forward(syntax, attributes, inputs, bridge)
            parse_options(attributes)  # what another frontend may know
            _check_capabilities(attributes.get("frontend.caps", ""))
            return await self._build(options, contexts, dockerfile, bridge)
        except DockerfileError as error:
            raise error.within(dockerfile.name, dockerfile.data) from error.__cause__

    async def _build(self, options: Options, contexts: Contexts, dockerfile: Dockerfile, bridge: Bridge) -> Result:
        if options.request == subrequests.LINT:
            return await self._lint(options, contexts, dockerfile, bridge)
        source, instructions = await asyncio.to_thread(_parse, dockerfile)  # a large file takes its time
        if options.request == subrequests.TARGETS:
            return subrequests.targets(dockerfile, [start for start, _, _ in split(instructions)[1]])
        if options.request not in ("", subrequests.OUTLINE):
            raise UnimplementedError(f"unsupported request {options.request}")
        checks = _checks(options, source)
        platforms: Sequence[Platform | None] = options.platforms or (None,)
        conversions = [
            # What is wrong with a Dockerfile is told once, not for every platform.
            Conversion(source, instructions, options, contexts, bridge, checks if number == 0 else Checks(), platform)
            for number, platform in enumerate(platforms)
        ]
        try:
            converted = await together(conversion.convert() for conversion in conversions)
        finally:
            for finding in checks.findings if not options.request else ():
                await bridge.warn(finding.warning, dockerfile.source)
        if options.request == subrequests.OUTLINE:
            return subrequests.outline(dockerfile, conversions[0], converted[0])
        if options.tells_plan:
            told = plan.Plan(tuple(conversions[0].plan), conversions[0].unused_arguments())
            await bridge.tell(plan.STEP, plan.encode_plan(told))
        return _result(options, converted, dockerfile)

    async def _lint(self, options: Options, contexts: Contexts, dockerfile: Dockerfile, bridge: Bridge) -> Result:
        checks, failure = Checks(), None
        try:
            source, instructions = await asyncio.to_thread(_parse, dockerfile)
            checks = _checks(options, source)
            platform = options.platforms[0] if options.platforms else None
            conversion = Conversion(source, instructions, options, contexts, bridge, checks, platform)
            await conversion.convert(all_stages=not options.target)
            checks.raise_if_asked()
        except SampanError as error:
            failure = error
        return subrequests.lint(dockerfile, checks.findings, failure)


def _check_capabilities(text: str) -> None:
    for name in filter(None, (part.strip().removesuffix("+forward") for part in text.split(","))):
        if name not in _CAPABILITIES:
            raise UnimplementedError(f"unsupported frontend capability {name}")


def _parse(dockerfile: Dockerfile) -> tuple[Source, tuple[Instruction, ...]]:
    if not dockerfile.data:
        raise EmptyDockerfileError("the Dockerfile cannot be empty")
    source = parse_source(dockerfile.data)
    return source, parse_instructions(source)


def _checks(options: Options, source: Source) -> Checks:
    text = source.directive("check") if options.checks is None else options.checks
    try:
        return Checks(parse_check_options(text))
    except InvalidArgumentError as error:
        line = next((each.line for each in source.directives if each.name == "check"), 0)
        lines = Lines(line, line) if line and options.checks is None else None
        raise DockerfileError(f"failed to parse check options: {error}", lines) from error


def _foreign_syntax(options: Options, data: bytes) -> Syntax | None:
    """Return which other frontend is to read the Dockerfile. Raises DockerfileError: a name that cannot be."""
    if options.command_line is not None:
        return None
    syntax = Syntax(options.syntax.strip()) if options.syntax.strip() else find_syntax(data)
    if syntax is None:
        return None
    try:
        ours = parse_reference(syntax.image).familiar_name in _OURS
    except SampanError as error:
        raise DockerfileError(str(error), syntax.lines) from error
    return None if ours else syntax


async def _forward(syntax: Syntax, attributes: Mapping[str, str], inputs: Mapping[str, Edge], bridge: Bridge) -> Result:
    """Have it do that. Raises DockerfileError: its image cannot be had or run, or knows nothing of a network."""
    if mode := attributes.get(NETWORK_MODE):
        raise DockerfileError(f"network mode {mode!r} is not known to the frontend {syntax.image}", syntax.lines)
    try:
        return await bridge.forward({**attributes, "cmdline": syntax.text, "source": syntax.image}, inputs)
    except FrontendError:
        raise
    except SampanError as error:
        words = str(error) if syntax.lines else f"failed with build-arg:BUILDKIT_SYNTAX = {syntax.text}: {error}"
        raise DockerfileError(words, syntax.lines) from error


def _result(options: Options, converted: Sequence[Converted], dockerfile: Dockerfile) -> Result:
    edges: dict[str, Edge | None] = {}
    metadata: dict[str, bytes] = {}
    platforms = []
    extras = {}
    for each in converted:
        name = str(each.config.platform)
        suffix = f"/{name}" if options.multi_platform else ""
        edges[name if options.multi_platform else ""] = each.edge
        extras[name if options.multi_platform else ""] = each.extras
        metadata[f"containerimage.config{suffix}"] = render_config(each.config)
        if each.base_config:
            metadata[f"containerimage.base.config{suffix}"] = each.base_config
        platforms.append({"ID": name, "Platform": _platform(each.config.platform)})
        if each.epoch_s is not None:
            metadata["source.date.epoch"] = str(each.epoch_s).encode()
    metadata["refs.platforms"] = json.dumps({"Platforms": platforms}, separators=(",", ":")).encode()
    return Result(edges, metadata, dockerfile.source, extras=extras)


def _platform(platform: Platform) -> dict[str, str]:
    members = {"architecture": platform.architecture, "os": platform.os, "variant": platform.variant}
    return {name: value for name, value in members.items() if value}
