"""Where a build's files come from: the build context, the Dockerfile in it, and named contexts.

Reference: moby/buildkit, attributes of ``dockerfile.v0``; the docker command's ``--build-context``.
"""

import json
import posixpath
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Final

from buildd.frontend.options import DEFAULT_FILE_NAME, Options
from buildd.llb.git import GitReference, clone, parse_git_reference
from buildd.llb.graph import Change, LocalDirectory, change_files, download, image, local, oci_layout
from buildd.llb.ops import Copy, Edge, FileAction, FileOp, Metadata, Node, Remove, SourceOp
from buildd.protocol import Bridge, Files, ImageQuery, SourceFile
from sampan.build.request import UPLOADED
from sampan.dockerfile.ignore import IgnorePatterns, parse_ignore_file
from sampan.errors import InvalidArgumentError, NotFoundError
from sampan.oci.config_document import parse_config
from sampan.oci.digest import Digest
from sampan.oci.image_config import ConfigFile
from sampan.oci.platform import Platform
from sampan.oci.reference import Reference, parse_reference
from sampan.tar.compression import is_archive

_IGNORE_FILE: Final = ".dockerignore"
_DOWNLOADED: Final = "context"
_HEAD_BYTES: Final = 1024
_UNREAD: Final = "failed to read dockerfile"


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """The file that is built."""

    name: str
    data: bytes

    @property
    def source(self) -> SourceFile:
        """What positions are in."""
        return SourceFile(self.name, self.data)


@dataclass(frozen=True, slots=True)
class NamedContext:
    """What stands in for a stage or an image."""

    edge: Edge | None
    config: ConfigFile | None = None
    config_bytes: bytes = b""
    directory: LocalDirectory | None = None  # the edge is its placeholder


class Contexts:
    """The contexts of one build. Each is looked at once, whatever asks for it and for how many platforms."""

    def __init__(self, options: Options, inputs: Mapping[str, Edge], bridge: Bridge) -> None:
        """``inputs`` are graphs that the client gives instead of directories."""
        self._options = options
        self._inputs = inputs
        self._bridge = bridge
        self._main: Edge | None = None  # a context that is not the client's directory
        self._dockerfile: Edge | None = None
        self._own_ignore: bytes | None = None  # of <Dockerfile>.dockerignore
        self._file_name = options.file_name
        self._ignore: tuple[str, ...] | None = None
        # Which of its files the build reads is known when all instructions have been applied.
        self.main: Edge = Node(SourceOp(f"local://{options.context_key}")).output()

    def _session(self, directory: str) -> str:
        """Return the client that has a directory: in graphs that go to other builds it is not theirs that is meant."""
        return self._options.sessions.get(directory, self._bridge.session)

    async def load_dockerfile(self) -> Dockerfile:
        """Find the build context and read the Dockerfile.

        Raises:
            NotFoundError: there is none.
            InvalidArgumentError: the context is no address that can be.
        """
        await self._find_main()
        source = self._dockerfile if not self._options.dockerfile_key else None
        source = source or local(
            self._dockerfile_directory(), Metadata(f"[internal] load build definition from {self._file_name}")
        )
        files = await self._bridge.solve(source)
        data = await self._read_dockerfile(files)
        try:
            self._own_ignore = await files.read_file(f"{self._file_name}{_IGNORE_FILE}")
        except NotFoundError:
            self._own_ignore = None
        return Dockerfile(self._file_name, data)

    def _dockerfile_directory(self) -> LocalDirectory:
        name = self._options.dockerfile_key or "dockerfile"
        names = [self._file_name, f"{self._file_name}{_IGNORE_FILE}"]
        folder, base = posixpath.split(self._file_name)
        if base == DEFAULT_FILE_NAME:
            names.append(posixpath.join(folder, base.lower()))
        session = self._session(name)
        return LocalDirectory(name, name, tuple(names), compare=False, session=session)

    async def _read_dockerfile(self, files: Files) -> bytes:
        try:
            return await files.read_file(self._file_name)
        except NotFoundError as error:
            folder, base = posixpath.split(self._file_name)
            if base == DEFAULT_FILE_NAME:
                try:
                    return await files.read_file(posixpath.join(folder, base.lower()))
                except NotFoundError:
                    pass
            raise NotFoundError(f"{_UNREAD}: open {self._file_name}: no such file or directory") from error
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"{_UNREAD}: {error}") from error

    async def _find_main(self) -> None:
        address = self._options.context
        repository = parse_git_reference(address, bare_names=True)
        if repository is not None:
            keep = self._options.keep_git_dir or repository.keep_git_dir
            said = Metadata(f"[internal] load git source {address}")
            self._main = clone(_keeping(repository, keep), said)
            self._dockerfile = self._main
        elif address.startswith(("http://", "https://")):
            await self._download(address)
        elif address:
            raise InvalidArgumentError(
                f"unsupported build context {address!r}: expected the URL of a file or repository"
            )
        else:
            self._main = self._inputs.get("context")
            self._dockerfile = self._inputs.get("dockerfile")
        if self._main is not None:
            if self._options.context_directory:
                part = Copy(self._options.context_directory, "/", dir_copy_contents=True)
                self._main = change_files(None, [Change(part, self._main)], Metadata("[internal] select a directory"))
            self.main = self._main

    async def _download(self, url: str) -> None:
        """A URL leads to an archive, or to the Dockerfile itself."""
        edge = download(url, _DOWNLOADED, Metadata("[internal] load remote build context"))
        head = await (await self._bridge.solve(edge)).read_file(_DOWNLOADED, _HEAD_BYTES)
        if is_archive(head):
            unpack = Copy(f"/{_DOWNLOADED}", "/", attempt_unpack=True)
            edge = change_files(None, [Change(unpack, edge)], Metadata("[internal] unpack remote build context"))
        else:
            self._file_name = _DOWNLOADED
        self._main = self._dockerfile = edge
        if url.startswith(f"{UPLOADED}/") and self._file_name != _DOWNLOADED:
            self._main = await self._without_ignored(edge)

    async def _without_ignored(self, context: Edge) -> Edge:
        """Leave out what a client sends although it is ignored: the two files that say how to build.

        They are sent for the builder to read. dockerd removes them, so that a change of the Dockerfile changes no copy.
        """
        files = await self._bridge.solve(context)
        try:
            patterns = IgnorePatterns(_patterns(await files.read_file(_IGNORE_FILE), _IGNORE_FILE))
        except NotFoundError:
            return context
        ignored = [name for name in (_IGNORE_FILE, self._file_name) if patterns.excludes(name)]
        for name in ignored:
            removal = FileOp((FileAction(Remove(f"/{name}", allow_not_found=True), input=0, output=0),))
            context = Node(removal, (context,), None, Metadata(f"[internal] leave out {name}")).output()
        return context

    async def load_ignore(self) -> tuple[str, ...]:
        """Return the patterns of the file that says what of the context is not sent; none if it is no directory.

        Raises:
            InvalidArgumentError: a pattern that cannot be.
        """
        if self._ignore is None:
            data, name = self._own_ignore, f"{self._file_name}{_IGNORE_FILE}"
            if data is None and self._main is None:
                data, name = await self._read_ignore(self._options.context_key, "[internal]"), _IGNORE_FILE
            self._ignore = _patterns(data or b"", name) if self._main is None else ()
        return self._ignore

    async def _read_ignore(self, directory: str, where: str, key: str = "") -> bytes:
        source = LocalDirectory(
            directory,
            f"{key or directory}-{_IGNORE_FILE}",
            (_IGNORE_FILE,),
            compare=False,
            session=self._session(directory),
        )
        files = await self._bridge.solve(local(source, Metadata(f"{where} load {_IGNORE_FILE}")))
        try:
            return await files.read_file(_IGNORE_FILE)
        except NotFoundError:
            return b""

    async def final_main(self, paths: Collection[str]) -> Edge:
        """Return what takes the place of ``main``: the context, or the part of it that ``paths`` name."""
        if self._main is not None:
            return self._main
        name = self._options.context_key
        directory = LocalDirectory(
            name,
            name,
            _followed(paths),
            await self.load_ignore(),
            session=self._session(name),
        )
        return local(directory, Metadata("[internal] load build context"))

    def final_named(self, directory: LocalDirectory, name: str, paths: Collection[str]) -> Edge:
        """Return what takes the place of a named context's placeholder."""
        part = LocalDirectory(
            directory.name, directory.shared_key, _followed(paths), directory.exclude, session=directory.session
        )
        return local(part, Metadata(f"[context {name}] load from client"))

    def has(self, name: str, platform: Platform) -> str:
        """Return under which name there is a context for a stage or an image; empty if there is none."""
        if name.lower() in ("scratch", "context"):
            return ""
        try:
            familiar = parse_reference(name.lower()).familiar.removesuffix(":latest")
        except InvalidArgumentError:
            return ""
        candidates = (f"{familiar}::{platform}", familiar)
        return next((each for each in candidates if each in self._options.contexts), "")

    async def load(self, name: str, platform: Platform) -> NamedContext:
        """Return a named context; ``name`` is what ``has`` returned.

        Raises:
            InvalidArgumentError: it is nothing that can be.
            NotFoundError: its image is not there.
        """
        address = self._options.contexts[name]
        kind, colon, rest = address.partition(":")
        if not colon:
            raise InvalidArgumentError(f"invalid context specifier {address} for {name}")
        if kind == "docker-image":
            return await self._image(name, rest.removeprefix("//"), platform)
        if kind == "oci-layout":
            return await self._layout(name, rest.removeprefix("//"), platform)
        if kind == "local":
            return await self._local(name, rest)
        if kind == "input":
            return self._input(name, rest)
        repository = parse_git_reference(address)
        said = Metadata(f"[context {name}] {address}")
        if repository is not None:
            return NamedContext(clone(repository, said))
        if kind in ("http", "https"):
            return NamedContext(download(address, _DOWNLOADED, said))
        raise InvalidArgumentError(f"unsupported context source {kind} for {name}")

    async def _image(self, name: str, text: str, platform: Platform) -> NamedContext:
        if text == "scratch":
            return NamedContext(None)
        reference = str(parse_reference(text).with_default_tag())
        said = f"[context {name}] load metadata for {reference}"
        found = await self._bridge.resolve_config(ImageQuery(reference, platform, self._options.resolve_mode, said))
        edge = image(
            pinned(found.reference, found.digest),
            platform,
            self._options.resolve_mode,
            Metadata(f"[context {name}] {text}"),
        )
        return NamedContext(edge, parse_config(found.config, text), found.config)

    async def _layout(self, name: str, text: str, platform: Platform) -> NamedContext:
        store, at, digest = text.partition("@")
        if not at:
            raise InvalidArgumentError(f'oci-layout reference "{text}" has no digest')
        above, slash, last = store.rpartition("/")
        store = f"{above}{slash}{last.partition(':')[0]}"  # a tag, which buildx adds, is no part of the store's name
        plain = name.partition("::")[0]
        reference = str(parse_reference(f"{plain}@{digest}"))
        said = f"[context {name}] load metadata for {reference}"
        found = await self._bridge.resolve_config(ImageQuery(reference, platform, step=said, layout=store))
        edge = oci_layout(reference, store, platform, Metadata(f"[context {name}] OCI load from client"))
        return NamedContext(edge, parse_config(found.config, reference), found.config)

    async def _local(self, name: str, directory: str) -> NamedContext:
        key = f"context:{name}-{self._options.shared_keys.get(name, '')}"
        data = await self._read_ignore(directory, f"[context {name}]", f"context:{name}")
        exclude = _patterns(data, _IGNORE_FILE)
        session = self._session(directory)
        placeholder = Node(SourceOp(f"local://{directory}")).output()
        return NamedContext(placeholder, directory=LocalDirectory(directory, key, (), exclude, session=session))

    def _input(self, name: str, text: str) -> NamedContext:
        edge = self._inputs.get(text)
        if edge is None:
            raise InvalidArgumentError(f"invalid input {text} for {name}")
        said = self._options.input_metadata.get(text)
        if not said:
            return NamedContext(edge)
        try:
            encoded = json.loads(said).get("containerimage.config")
            data = b64decode(encoded, validate=True) if encoded else b""
        except (ValueError, AttributeError, TypeError, NotBase64) as error:
            raise InvalidArgumentError(f"failed to parse input metadata of {text}: {error}") from error
        return NamedContext(edge, parse_config(data, text) if data else None, data)


def _keeping(repository: GitReference, keep: bool | None) -> GitReference:
    return replace(repository, keep_git_dir=keep)


def pinned(reference: str, digest: Digest | None) -> str:
    """Return a reference that names one image for good, with the tag that it had."""
    parsed: Reference = parse_reference(reference)
    return str(replace(parsed, digest=digest) if digest and parsed.digest is None else parsed)


def _patterns(data: bytes, name: str) -> tuple[str, ...]:
    try:
        return parse_ignore_file(data)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(f"failed parsing {name}: {error}") from error


def _followed(paths: Collection[str]) -> tuple[str, ...]:
    """Return the paths that are sent; empty if that is everything."""
    if "/" in paths:
        return ()
    return tuple(sorted(posixpath.normpath(path.lstrip("/")) for path in paths))
