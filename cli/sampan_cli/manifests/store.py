"""Manifest lists in the making, where the docker command keeps them, so that both know the same ones.

Each is a directory of ``manifests`` in Docker's configuration directory, called by the list's whole name, with a file
for each of its manifests, called by that one's.
"""

import base64
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgumentError, NotFoundError, RemoteError, SampanError
from sampan.json_types import JsonObject
from sampan.oci.descriptor import DOCKER_MANIFEST, INDEXES, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.json_documents import load_json
from sampan.oci.reference import Reference, parse_reference
from sampan.resource.image import RemoteManifest

_FILE_NAME: Final = str.maketrans(":/", "-_")
_ESCAPED: Final = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class ListedPlatform:
    """What an index says of one of its images, as the config of that image has it."""

    architecture: str = ""
    os: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    variant: str = ""

    @classmethod
    def read(cls, fields: object) -> "ListedPlatform":
        """Read a config's fields, or an index's. Raises RemoteError."""
        if not isinstance(fields, Mapping):
            raise RemoteError("a platform is not an object")
        texts = [fields.get(key) or "" for key in ("architecture", "os", "os.version", "variant")]
        features = fields.get("os.features") or []
        if not isinstance(features, list) or not all(isinstance(text, str) for text in (*texts, *features)):
            raise RemoteError("a platform is not made of texts")
        architecture, system, version, variant = texts
        return cls(architecture, system, version, tuple(features), variant)

    def document(self) -> JsonObject:
        """Return it as an index has it."""
        optional = {"os.version": self.os_version, "os.features": list(self.os_features), "variant": self.variant}
        said = {key: value for key, value in optional.items() if value}
        return {"architecture": self.architecture, "os": self.os, **said}


@dataclass(frozen=True, slots=True)
class ListedManifest:
    """One manifest of a list."""

    reference: Reference
    target: Descriptor
    platform: ListedPlatform | None
    content: bytes = b""  # empty where an old docker command has not kept it

    @classmethod
    def of(cls, reference: Reference, found: RemoteManifest) -> "ListedManifest":
        """Return what a registry has, for the platform that its config says.

        Raises:
            RemoteError: an index, or a config that is none.
        """
        if found.target.media_type in INDEXES:
            raise RemoteError(f"{reference} is a manifest list")
        platform = ListedPlatform.read(load_json(found.config, f"config of {reference}"))
        return cls(reference, found.target, platform, found.content)

    def document(self) -> JsonObject:
        """Return it as the docker command writes and shows it."""
        target: JsonObject = {
            "mediaType": self.target.media_type,
            "digest": self.target.digest,
            "size": self.target.size,
        }
        if self.platform is not None:
            target["platform"] = self.platform.document()
        kind = "SchemaV2Manifest" if self.target.media_type == DOCKER_MANIFEST else "OCIManifest"
        kept = {"Raw": base64.b64encode(self.content).decode(), kind: json.loads(self.content)} if self.content else {}
        return {"Ref": str(self.reference), "Descriptor": target, **kept}


class ManifestStore:
    """The lists of one user."""

    def __init__(self, directory: Path) -> None:
        """Use Docker's configuration directory ``directory``."""
        self._root = directory / "manifests"

    def get(self, list_: Reference, manifest: Reference) -> ListedManifest:
        """Return one manifest of a list.

        Raises:
            NotFoundError: in Docker's words, there is none.
            InvalidArgumentError: its file cannot be read.
        """
        return _read(self._directory(list_) / _file_name(manifest), manifest)

    def all_of(self, list_: Reference) -> list[ListedManifest]:
        """Return a list's manifests, in the order of their names. Raises as ``get``."""
        try:
            files = sorted(self._directory(list_).iterdir(), key=os.fsencode)
        except FileNotFoundError:
            raise _no_such(list_) from None
        return [_read(file, list_) for file in files]

    def put(self, list_: Reference, manifest: ListedManifest) -> None:
        """Keep a manifest in a list, which there may not have been, in place of the one of its name.

        Raises:
            SampanError: it cannot be written.
        """
        directory, name = self._directory(list_), _file_name(manifest.reference)
        temporary = self._root / f".{os.getpid()}"  # where nobody takes it for one of the list's
        try:
            directory.mkdir(parents=True, exist_ok=True)
            temporary.write_text(go_json(manifest.document()))
            temporary.replace(directory / name)
        except OSError as error:
            raise SampanError(f"{manifest.reference} cannot be kept in {directory}: {error}") from error

    def remove(self, list_: Reference) -> None:
        """Forget a list. NotFoundError: in Docker's words, there is none."""
        try:
            shutil.rmtree(self._directory(list_))
        except FileNotFoundError:
            raise _no_such(list_) from None
        except OSError as error:
            raise SampanError(f"{list_} cannot be removed from {self._root}: {error}") from error

    def _directory(self, list_: Reference) -> Path:
        return self._root / _file_name(list_)


def go_json(value: object, indent: str | None = None) -> str:
    """Return JSON as Go writes it, byte for byte: what an index is, its digest depends on."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=(",", ":" if indent is None else ": "))
    for character, escaped in _ESCAPED.items():
        text = text.replace(character, escaped)
    return text


def _file_name(reference: Reference) -> str:
    return str(reference).translate(_FILE_NAME)


def _no_such(reference: Reference) -> NotFoundError:
    return NotFoundError(f"No such manifest: {reference}")


def _read(file: Path, wanted: Reference) -> ListedManifest:
    try:
        document = json.loads(file.read_bytes())
        target = document["Descriptor"]
        platform = target.get("platform")
        return ListedManifest(
            parse_reference(document["Ref"]),
            Descriptor(str(target["mediaType"]), Digest.parse(target["digest"]), int(target["size"])),
            None if platform is None else ListedPlatform.read(platform),
            base64.b64decode(document.get("Raw") or ""),
        )
    except FileNotFoundError:
        raise _no_such(wanted) from None
    except (SampanError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgumentError(f"{wanted} cannot be read from {file}: {error}") from error
