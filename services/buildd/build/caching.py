"""The caches of other builders that one build is given, and those that it fills: ``--cache-from``, ``--cache-to``."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from buildd.build.protocol import ImportedCaches
from buildd.protocol import Output, StepContext, Tree
from buildd.remote_cache.document import CachedResult
from buildd.remote_cache.exports import INLINE, check_export, ignores_errors, inline
from buildd.solver.build import Build
from sampan.build.request import CacheOption
from sampan.cancellation import together
from sampan.errors import InvalidArgumentError, SampanError
from sampan.log import log
from sampan.oci.digest import Digest
from sampan.oci.json_documents import load_json

_PLACES: Final = {"registry": "registry", "local": "client directory"}


class ExportedCaches(Protocol):
    """Fills caches of other builders."""

    async def export(
        self,
        option: CacheOption,
        trees: Sequence[Tree],
        results: Sequence[CachedResult],
        taken: Collection[Digest],
        context: StepContext,
    ) -> Mapping[str, str]:
        """See ``buildd.remote_cache.exports.CacheExports``."""


@dataclass(frozen=True, slots=True)
class Caches:
    """Where builds get and put results beside their own cache."""

    imports: Callable[[], AbstractAsyncContextManager[ImportedCaches]]
    exports: ExportedCaches


class BuildCaches:
    """Those of one build."""

    def __init__(self, run: Build, imports: ImportedCaches, exports: ExportedCaches) -> None:
        self._run = run
        self._imports = imports
        self._exports = exports
        self._loaded: set[str] = set()

    async def load(self, options: Sequence[CacheOption]) -> None:
        """Look into caches, each once; one that cannot be had is shown, and the build goes on without it."""
        new = {repr(option): option for option in options if repr(option) not in self._loaded}
        self._loaded |= new.keys()
        await together(self._load(option) for option in new.values())

    async def _load(self, option: CacheOption) -> None:
        unnamed = f"{option.type}:{Digest.of(repr(option).encode()).short}"
        name = option.attributes.get("ref") or option.attributes.get("src") or unnamed
        try:
            async with self._run.step(f"importing cache manifest from {name}") as context:
                await self._imports.load(option, context)
        except SampanError as error:
            log.info("a cache is not imported", cache=name, error=str(error))

    def inline(self, options: Sequence[CacheOption], outputs: Mapping[str, Output | None]) -> Mapping[str, bytes]:
        """Return what goes into the images' configs."""
        if not any(option.type == INLINE for option in options):
            return {}
        trees = {name: output for name, output in outputs.items() if isinstance(output, Tree)}
        return inline(trees, self._results())

    async def export(
        self, options: Sequence[CacheOption], outputs: Mapping[str, Output | None], taken: Collection[Digest]
    ) -> Mapping[str, str]:
        """Fill caches; return what the client is told. Raises as ``ExportedCaches.export``."""
        told: dict[str, str] = {}
        trees = [output for output in outputs.values() if isinstance(output, Tree)]
        for option in options:
            if option.type == INLINE:
                continue
            try:
                async with self._run.step(f"exporting cache to {_PLACES[option.type]}") as context:
                    told |= await self._exports.export(option, trees, self._results(), taken, context)
            except SampanError as error:
                if not ignores_errors(option):
                    raise
                log.info("a cache is not exported", type=option.type, error=str(error))
        return told

    def _results(self) -> list[CachedResult]:
        found = []
        for each in self._run.evaluated():
            trees = tuple(output for output in each.outputs if isinstance(output, Tree))
            if trees and len(trees) == len(each.outputs):
                found.append(CachedResult(each.key, trees))
        return found


def check(exports: Sequence[CacheOption]) -> None:
    """Refuse what cannot be, before anything is built. Raises InvalidArgumentError, UnimplementedError."""
    for option in exports:
        check_export(option)
        ignores_errors(option)


def imports_of(attributes: Mapping[str, str]) -> tuple[CacheOption, ...]:
    """Return the caches that a client names among a frontend's attributes.

    Raises:
        InvalidArgumentError: no list of caches.
    """
    options = [CacheOption("registry", {"ref": ref}) for ref in attributes.get("cache-from", "").split(",") if ref]
    text = attributes.get("cache-imports", "")
    if text:
        said = load_json(text.encode(), "frontend attribute cache-imports")
        for each in said if isinstance(said, list) else [said]:
            if not isinstance(each, dict) or not isinstance(each.get("Attrs") or {}, dict):
                raise InvalidArgumentError(f"frontend attribute cache-imports: {json.dumps(each)[:80]} is no cache")
            given = {str(name): str(value) for name, value in (each.get("Attrs") or {}).items()}
            options.append(CacheOption(str(each.get("Type", "")), given))
    return tuple(options)
