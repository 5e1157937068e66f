"""Exporters that give nothing away, and remember what they were given."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from buildd.exporters.protocol import BuildResult, Exported
from buildd.protocol import StepContext
from sampan.build.request import Export
from sampan.errors import InvalidArgumentError


@dataclass(slots=True)
class FakeExporters:
    """Satisfies ``buildd.exporters.protocol.Exporters``; knows the type "image" and its attribute "name"."""

    exported: list[tuple[Export, BuildResult]] = field(default_factory=list)

    def check(self, export: Export) -> None:
        if export.type != "image" or export.attributes.keys() - {"name"}:
            raise InvalidArgumentError(f"unknown exporter {export.type!r} or attribute of it")

    async def export(
        self, result: BuildResult, export: Export, context: StepContext, inline_cache: Mapping[str, bytes]
    ) -> Exported:
        self.exported.append((export, result))
        return Exported({"image.name": export.attributes.get("name", "")})
