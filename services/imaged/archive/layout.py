"""The images of an OCI image layout.

Reference: OCI image spec 1.1, "Image Layout"; names are where containerd, podman and skopeo put them.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from imaged.archive.files import Files
from imaged.archive.images import (
    ArchivedImage,
    Document,
    Read,
    check_layer,
    layer_descriptor,
    read_config,
    read_json,
    small,
)
from imaged.archive.save import NAME_ANNOTATION, REF_ANNOTATION
from imaged.images.index import ATTESTED
from sampan.errors import InvalidArgumentError, NotFoundError, RemoteError
from sampan.oci.descriptor import INDEXES, MANIFESTS, OCI_INDEX, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.manifest import IndexEntry, Manifest, choose, parse_document, parse_references
from sampan.oci.platform import Platform, host_platform
from sampan.oci.reference import Reference, parse_reference

_MAX_DEPTH: Final = 4
_MAX_DOCUMENT_BYTES: Final = 4 << 20
_UNKNOWN: Final = "unknown"  # the platform of attestations


class Layout:
    """Reads one archive's index."""

    def __init__(self, files: Files, read: Read, platforms: Sequence[Platform]) -> None:
        self._files = files
        self._read = read
        self._platforms = tuple(platforms)

    def images(self) -> list[ArchivedImage]:
        """Return the images that ``index.json`` lists, one of each nested index.

        Raises:
            InvalidArgumentError: malformed, or a manifest, config or layer is not in the archive.
            NotFoundError: an index has nothing for one of the platforms.
        """
        try:
            found = list(self._listed())
        except RemoteError as error:
            raise InvalidArgumentError(str(error)) from error
        merged: dict[tuple[Digest, ...], ArchivedImage] = {}
        for image in found:
            key = tuple(document.descriptor.digest for document in image.documents)
            before = merged.get(key)
            names = (*before.names, *image.names) if before else image.names
            merged[key] = replace(image, names=tuple(dict.fromkeys(names)))
        if not merged:
            raise InvalidArgumentError("index.json lists no images")
        return list(merged.values())

    def _listed(self) -> Iterator[ArchivedImage]:
        what = "index.json"
        content = small(self._files.get(what, "the archive"), self._read, what, _MAX_DOCUMENT_BYTES)
        document = read_json(content, what)
        if not isinstance(document, dict):
            raise InvalidArgumentError(f"{what} is not an index")
        # Many writers leave its own type out, and some state another one.
        entries = parse_document(content, document.get("mediaType") or OCI_INDEX, what)
        if isinstance(entries, Manifest):
            raise InvalidArgumentError(f"{what} is a manifest")
        for entry, raw in zip(entries, document["manifests"], strict=True):
            if not _is_image(entry):
                continue
            annotations = raw.get("annotations")
            names = _names(annotations if isinstance(annotations, dict) else {})
            documents = self._down_to_manifest(entry.descriptor)
            if documents is not None:
                yield self._image(documents, names)

    def _down_to_manifest(self, descriptor: Descriptor) -> tuple[tuple[Document, ...], Manifest] | None:
        documents: list[Document] = []
        while True:
            if len(documents) > _MAX_DEPTH:
                raise InvalidArgumentError(f"index {descriptor.digest}: indexes are nested more than {_MAX_DEPTH} deep")
            name = _blob(descriptor.digest)
            file = self._files.get(name, "index.json" if not documents else _blob(documents[-1].descriptor.digest))
            content = small(file, self._read, name, _MAX_DOCUMENT_BYTES)
            if file.digest != descriptor.digest or file.size != descriptor.size:
                raise InvalidArgumentError(f"{name} has {file.size} bytes, its index says {descriptor.size}")
            documents.append(Document(descriptor, file))
            parsed = parse_document(content, descriptor.media_type, name)
            if isinstance(parsed, Manifest):
                return tuple(documents), parsed
            descriptor = self._choose(parsed)

    def _choose(self, entries: tuple[IndexEntry, ...]) -> Descriptor:
        """Choose what to show: this host's, of what is asked for; whatever the archive has is better than nothing."""
        wanted = self._wanted(entries)
        if not wanted:
            raise NotFoundError(f"no matching manifest for {host_platform()} in the manifest list entries")
        try:
            return choose(tuple(entry for entry in entries if entry.descriptor in wanted), host_platform())
        except NotFoundError:
            return wanted[0]

    def _wanted(self, entries: tuple[IndexEntry, ...]) -> tuple[Descriptor, ...]:
        """Return the images of an index that are asked for and in the archive. NotFoundError: one is not."""
        here = tuple(e for e in entries if _is_image(e) and self._files.find(_blob(e.descriptor.digest)))
        if self._platforms:
            return tuple(choose(here, platform) for platform in self._platforms)
        return tuple(entry.descriptor for entry in here)

    def _image(self, found: tuple[tuple[Document, ...], Manifest], names: tuple[Reference, ...]) -> ArchivedImage:
        documents, manifest = found
        where = _blob(documents[-1].descriptor.digest)
        config_name = _blob(manifest.config.digest)
        config = small(self._files.get(config_name, where), self._read, config_name)
        parsed = read_config(config, config_name)
        if len(parsed.diff_ids) != len(manifest.layers):
            raise InvalidArgumentError(
                f"{where} has {len(manifest.layers)} layers, its config {len(parsed.diff_ids)} diff IDs"
            )
        layers = []
        for layer, diff_id in zip(manifest.layers, parsed.diff_ids, strict=True):
            name = _blob(layer.digest)
            file = self._files.get(name, where)
            if file.size != layer.size:
                raise InvalidArgumentError(f"{name} has {file.size} bytes, its manifest says {layer.size}")
            layer_descriptor(file, name)
            layers.append((check_layer(layer, diff_id, name), file))
        if not self._leads(documents, parsed.platform):
            documents = documents[-1:]
        # Whoever asks for one platform gets that one.
        others = tuple(self._others(documents[0])) if len(self._platforms) != 1 and len(documents) > 1 else ()
        return ArchivedImage(config, parsed, tuple(layers), names, documents, others)

    def _others(self, document: Document, depth: int = 0) -> Iterator[Document]:
        """Yield what an index leads to, if it is asked for and in the archive, a manifest with all of its blobs."""
        name = _blob(document.descriptor.digest)
        content = small(document.file, self._read, name, _MAX_DOCUMENT_BYTES)
        entries = parse_document(content, document.descriptor.media_type, name)
        if isinstance(entries, Manifest) or depth > _MAX_DEPTH:
            return
        wanted = self._wanted(entries) if self._platforms else None
        for entry in entries:
            inner = self._document(entry.descriptor)
            if inner is None or not (wanted is None or _belongs(entry, wanted)):
                continue
            if entry.descriptor.media_type in INDEXES:
                yield inner
                yield from self._others(inner, depth + 1)
            elif entry.descriptor.media_type in MANIFESTS:
                yield from self._member(inner)

    def _member(self, manifest: Document) -> Iterator[Document]:
        name = _blob(manifest.descriptor.digest)
        content = small(manifest.file, self._read, name, _MAX_DOCUMENT_BYTES)
        blobs = [self._document(each) for each in parse_references(content, manifest.descriptor.media_type, name)]
        present = [each for each in blobs if each is not None]
        if len(present) == len(blobs):
            yield manifest
            yield from present

    def _document(self, descriptor: Descriptor) -> Document | None:
        file = self._files.find(_blob(descriptor.digest))
        if file is None or file.digest != descriptor.digest or file.size != descriptor.size:
            return None
        return Document(descriptor, file)

    def _leads(self, documents: tuple[Document, ...], platform: Platform) -> bool:
        """Say whether whoever looks for the image's platform finds it through the indexes around it."""
        for outer, inner in itertools.pairwise(documents):
            entries = parse_document(self._read(outer.file), outer.descriptor.media_type, "index")
            if isinstance(entries, Manifest):
                return False
            try:
                if choose(entries, platform).digest != inner.descriptor.digest:
                    return False
            except NotFoundError:
                return False
        return True


def _is_image(entry: IndexEntry) -> bool:
    if entry.descriptor.media_type not in MANIFESTS | INDEXES:
        return False
    return entry.platform is None or _UNKNOWN not in (entry.platform.os, entry.platform.architecture)


def _belongs(entry: IndexEntry, wanted: Sequence[Descriptor]) -> bool:
    """Say whether an entry is one of these, or an attestation about one."""
    return entry.descriptor in wanted or entry.annotations.get(ATTESTED) in {each.digest for each in wanted}


def _blob(digest: Digest) -> str:
    return f"blobs/sha256/{digest.hex}"


def _names(annotations: Mapping[str, object]) -> tuple[Reference, ...]:
    """Return the name: whole, or in the second annotation if that is more than a tag."""
    for key in (NAME_ANNOTATION, REF_ANNOTATION):
        text = annotations.get(key)
        if not isinstance(text, str) or (key == REF_ANNOTATION and not {"/", ":"} & set(text)):
            continue
        try:
            reference = parse_reference(text)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(f"index.json: {error}") from error
        if reference.digest is None:
            return (reference.with_default_tag(),)
    return ()
