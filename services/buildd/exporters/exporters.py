"""Gives results away: as images, archives, or files.

Reference: moby/buildkit, README, "Output"; keys of the answer are those of its exporter/containerimage/exptypes.
"""

import base64
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from buildd.content import Content, Images
from buildd.exporters import archives
from buildd.exporters.attestations import render_statement
from buildd.exporters.attributes import ARCHIVE_TYPES, IMAGE_TYPES, ExportAttributes, parse_attributes
from buildd.exporters.image import AssembledImage, ImageAssembler, descriptor_json, epoch_of, platforms_of
from buildd.exporters.layers import LayerConverter
from buildd.exporters.protocol import Attestation, BuildResult, Exported
from buildd.llb.ops import NO_OUTPUT, FileAction, FileOp, MakeFile
from buildd.protocol import FileWorker, Output, StepContext, Tree, Trees
from buildd.provenance.materials import digest_set
from buildd.session.clients import Clients
from sampan.build.request import Export
from sampan.errors import InvalidArgumentError, NotFoundError, SampanError, UnimplementedError, reworded
from sampan.oci.descriptor import Descriptor
from sampan.oci.reference import parse_reference
from sampan.resource.image import ImageDetails
from sampan.resource.transfer import PushPhase, PushStep

_LAYOUT_STORE: Final = "export"
_REMEMBERED: Final = 64  # images that were made of results
_SENT: Final = frozenset((PushPhase.PUSHING, PushPhase.PUSHED, PushPhase.EXISTED, PushPhase.MOUNTED))


# Tells the world of an image that was made here, and of the names that it has got.
Announce = Callable[[ImageDetails, Sequence[str]], Awaitable[None]]


class BuildExporters:
    """Satisfies ``exporters.protocol.Exporters``."""

    def __init__(
        self,
        content: Content,
        images: Images,
        trees: Trees,
        files: FileWorker,
        layers: LayerConverter,
        clients: Clients,
        announce: Announce,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._content = content
        self._images = images
        self._files = files
        self._clients = clients
        self._announce = announce
        self._now_ns = now_ns
        self._trees = trees
        self._assembler = ImageAssembler(content, trees, files, layers, now_ns)
        self._made: OrderedDict[Hashable, AssembledImage] = OrderedDict()  # by what they were made of, the latest last

    def check(self, export: Export) -> None:
        """See ``exporters.protocol.Exporters``."""
        parse_attributes(export.type, export.attributes)

    async def export(
        self, result: BuildResult, export: Export, context: StepContext, inline_cache: Mapping[str, bytes]
    ) -> Exported:
        """See ``exporters.protocol.Exporters``."""
        attributes = parse_attributes(export.type, export.attributes)
        if export.type in IMAGE_TYPES:
            return await self._image(result, export, attributes, context, inline_cache)
        if export.type in ARCHIVE_TYPES:
            return await self._archive(result, export, attributes, context, inline_cache)
        return await self._send_files(result, export, attributes, context)

    async def _image(
        self,
        result: BuildResult,
        export: Export,
        attributes: ExportAttributes,
        context: StepContext,
        inline_cache: Mapping[str, bytes],
    ) -> Exported:
        names = attributes.names
        same = _same_image(result, attributes, inline_cache)
        if same is not None and (image := await self._again(same, names, context)) is not None:
            return _exported(image, self._told(image, names))
        inline = attributes.inline_attestations
        if inline is None:  # what stays in Docker's own store stays a plain image, unless its client asks
            inline = export.type == "image" or attributes.push
        async with self._images.kept() as lease:
            context.status("exporting layers")
            image = await self._assembler.assemble(
                result, attributes, inline_cache, lease, inline=inline, defer=attributes.may_defer
            )
            context.status("exporting layers", done=True)
            if attributes.rewrite_timestamp and epoch_of(result, attributes) is None:
                context.log(b"rewrite-timestamp is specified, but no source-date-epoch was found\n", 2)
            if not attributes.store:
                for name in _targets(names, image, attributes) if attributes.push else ():
                    await self._push(name, context, image.target)
                return _exported(image, self._told(image, names))
            said = f"writing image {image.images[0].config.digest}"
            context.status(said)
            targets = _targets(names, image, attributes)
            dangling = f"{attributes.dangling_prefix}@{image.target.digest}"
            if attributes.dangling_prefix and not (names and attributes.dangling_only):
                names, targets = (*names, dangling), (*targets, dangling)
            made = await self._images.create(
                targets[0] if targets else "", image.target, lease, deferred=image.deferred
            )
            if same is not None:
                self._remember(same, image)
            context.status(said, done=True)
        for number, name in enumerate(targets):
            if number:
                await self._name(name, targets[0], image)
            if attributes.name_canonical and "@" not in name:
                await self._name(f"{parse_reference(name).name}@{image.target.digest}", targets[0], image)
            context.status(f"naming to {name}", done=True)
        await self._announce(made.image, [name for name in targets if "@" not in name])
        if attributes.push:
            for name in targets:
                if name != dangling:
                    await self._push(name, context)
        return _exported(image, self._told(image, names))

    async def _again(self, same: Hashable, names: Sequence[str], context: StepContext) -> AssembledImage | None:
        """Name an image that was made of the same before; None: there is none, or not all of it is here any more."""
        image = self._made.get(same)
        if image is None or (image.deferred and await self._images.forms(sorted(image.deferred))):
            return None  # with blobs that were made since it is another manifest
        try:
            for each in image.images:
                await self._trees.ready(each.tree)
            made = await self._images.create(names[0] if names else "", image.target, "", deferred=image.deferred)
        except NotFoundError:
            self._made.pop(same, None)
            return None
        self._remember(same, image)
        context.status("exporting layers", done=True)
        context.status(f"writing image {image.images[0].config.digest}", done=True)
        for number, name in enumerate(names):
            if number:
                await self._name(name, names[0], image)
            context.status(f"naming to {name}", done=True)
        await self._announce(made.image, names)
        return image

    def _remember(self, same: Hashable, image: AssembledImage) -> None:
        self._made[same] = image
        self._made.move_to_end(same)
        if len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)

    async def _name(self, name: str, first: str, image: AssembledImage) -> None:
        """Give the image that is called ``first`` another name."""
        if "@" not in name:
            await self._images.tag(first, name)
            return
        async with self._images.kept() as lease:
            await self._images.create(name, image.target, lease)

    async def _push(self, name: str, context: StepContext, target: Descriptor | None = None) -> None:
        """Push what a name leads to; ``target`` is what has no name here."""
        credentials = await self._clients.credentials(parse_reference(name), context)
        said = f"pushing {name}"
        context.status(said)
        try:
            async with aclosing(self._images.push(name, credentials, None, target)) as steps:
                async for step in steps:
                    if isinstance(step, PushStep) and step.phase in _SENT:
                        there = step.phase is not PushPhase.PUSHING
                        context.status(f"pushing {step.digest}", current=step.offset, total=step.total, done=there)
        except SampanError as error:
            raise reworded(error, f"failed to push {name}: {error}") from error
        context.status(said, done=True)

    async def _archive(
        self,
        result: BuildResult,
        export: Export,
        attributes: ExportAttributes,
        context: StepContext,
        inline_cache: Mapping[str, bytes],
    ) -> Exported:
        loadable = export.type == "docker"
        inline = bool(attributes.inline_attestations)
        attested = any(inline or not each.inline_only for said in result.attestations.values() for each in said)
        if loadable and (len(result.outputs) > 1 or attested):
            raise UnimplementedError("docker exporter does not currently support exporting manifest lists")
        session = await self._clients.first(context)
        async with self._images.kept() as lease:
            context.status("exporting layers")
            image = await self._assembler.assemble(result, attributes, inline_cache, lease, inline=inline)
            context.status("exporting layers", done=True)
            told = self._told(image, attributes.names)
            if not attributes.as_tar:
                if loadable:
                    raise UnimplementedError("docker exporter writes archives only: leave tar=false out")
                await archives.copy(self._content, image, session.content(_LAYOUT_STORE))
                return _exported(image, told)
            context.status("sending tarball")
            pieces = archives.archive(self._content, image, attributes.names, self._created(), loadable=loadable)
            async with aclosing(pieces):
                await session.send_file(pieces, told, export.id or "0")
            context.status("sending tarball", done=True)
        return _exported(image, told)

    async def _send_files(
        self, result: BuildResult, export: Export, attributes: ExportAttributes, context: StepContext
    ) -> Exported:
        """Send the files themselves: those of one platform as they are, of several below the platforms' names."""
        session = await self._clients.first(context)
        split = attributes.platform_split
        if split is False and len(result.outputs) > 1:
            raise InvalidArgumentError("platform-split=false: files of several platforms would overwrite each other")
        outputs: dict[str, Output] = {}
        for key, platform in platforms_of(result):
            name = str(platform).replace("/", "_") if split or len(result.outputs) > 1 else ""
            output = result.outputs[key]
            told = [each for each in result.attestations.get(key, ()) if not each.inline_only]
            beside = f".{str(platform).replace('/', '_')}" if key and not name else ""
            outputs[name] = await self._attested(output or Tree(), told, attributes.attestation_prefix, beside, context)
        said = "sending tarball" if export.type == "tar" else "copying files"
        context.status(said)
        if export.type == "tar":
            async with aclosing(self._files.tar(outputs)) as pieces:
                sent = await session.send_file(pieces, {}, export.id or "0")
        else:
            async with self._files.mounted(outputs) as place:
                sent = await session.send_files(
                    place, {}, export.id or "0", lambda current: context.status(said, current=current)
                )
        context.status(said, current=sent, total=sent, done=True)
        return Exported()

    async def _attested(
        self, output: Output, said: Sequence[Attestation], prefix: str, platform: str, context: StepContext
    ) -> Output:
        """Return files with what is said of them beside, one file each; ``platform`` goes into those files' names."""
        if not said:
            return output
        digests = await self._files.file_digests(output)
        subjects = [{"name": path, "digest": digest_set(digest)} for path, digest in sorted(digests.items())]
        actions = []
        for number, each in enumerate(said):
            stem, dot, extension = each.file_name.rpartition(".")
            name = prefix + (f"{stem}{platform}{dot}{extension}" if dot else each.file_name + platform)
            data = json.dumps(render_statement(each, subjects), indent=2).encode()
            file = MakeFile(f"/{name}", 0o600, data, timestamp_ns=self._now_ns())
            last = number == len(said) - 1
            actions.append(FileAction(file, input=number, output=0 if last else NO_OUTPUT))
        (tree,) = await self._files.change(FileOp(tuple(actions)), [output], context)
        return tree

    def _told(self, image: AssembledImage, names: tuple[str, ...]) -> Mapping[str, str]:
        told: dict[str, str] = {}
        if image.deferred:
            # The manifest is another one as soon as the layers have blobs: like dockerd's, the image has no digest
            # before it is pushed, and is told by its ID.
            told["containerimage.digest"] = image.images[0].config.digest
        else:
            told["containerimage.digest"] = image.target.digest
            described = descriptor_json(image, self._created())
            told["containerimage.descriptor"] = base64.b64encode(described.encode()).decode()
        if len(image.images) == 1:
            told["containerimage.config.digest"] = image.images[0].config.digest
        if names:
            told["image.name"] = ",".join(names)
        return told

    def _created(self) -> str:
        return datetime.fromtimestamp(self._now_ns() // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _same_image(
    result: BuildResult, attributes: ExportAttributes, inline_cache: Mapping[str, bytes]
) -> Hashable | None:
    """Return what an image that stays here under plain names depends on; None: on more than that, or on the time."""
    said = any(result.attestations.values()) or any(inline_cache.values())
    if said or not attributes.may_defer or attributes.rewrite_timestamp or not result.made_ns:
        return None
    trees = {key: (tree, tree.unchanged) for key, tree in result.outputs.items() if isinstance(tree, Tree)}
    if len(trees) < len(result.outputs):
        return None
    metadata, made_ns = tuple(sorted(result.metadata.items())), tuple(sorted(result.made_ns.items()))
    return tuple(trees.items()), metadata, result.taken, made_ns, replace(attributes, names=())


def _targets(names: Sequence[str], image: AssembledImage, attributes: ExportAttributes) -> tuple[str, ...]:
    """Return what an image is named and pushed as: by digest, if that is asked for."""
    return tuple(f"{name}@{image.target.digest}" if attributes.push_by_digest else name for name in names)


def _exported(image: AssembledImage, told: Mapping[str, str]) -> Exported:
    return Exported(told) if image.deferred else Exported(told, image.target, image.documents)
