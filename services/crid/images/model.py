"""Images as pods see them, as frozen values."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.oci.reference import DEFAULT_REGISTRY, Reference
from sampan.resource.image import Credentials

_HUB: Final = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


@dataclass(frozen=True, slots=True)
class PodImage:
    """An image."""

    id: str  # digest of its config, the same wherever the image is named
    repo_tags: tuple[str, ...]  # whole names: docker.io/library/debian:12
    repo_digests: tuple[str, ...]
    size_bytes: int  # of its layers on disk
    uid: int | None  # who its processes are, if it says so by number
    username: str  # … by name
    pinned: bool  # the administrator wants it kept


@dataclass(frozen=True, slots=True)
class ImageDescription:
    """An image with what it says of itself."""

    image: PodImage
    info: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class FilesystemUse:
    """What something takes on the file system of a directory."""

    directory: Path
    used_bytes: int
    inodes: int
    measured_ns: int  # since 1970


@dataclass(frozen=True, slots=True)
class Auth:
    """How kubelet logs in at a registry: one of several ways."""

    username: str = ""
    password: str = field(default="", repr=False)
    auth: str = field(default="", repr=False)  # "name:password" in base64
    server_address: str = ""  # of the registry that all this is for; empty: any
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def credentials(self, reference: Reference) -> Credentials | None:
        """Return what to log in with for a pull; None if it is another registry's.

        Raises:
            InvalidArgumentError: ``auth`` is not what it should be.
        """
        if self.server_address and _host(self.server_address) != _canonical(reference.registry):
            return None
        username, password = self.username, self.password
        if self.auth and not username:
            username, password = _split(self.auth)
        found = Credentials(username, password, self.identity_token, self.registry_token)
        return found or None


def _split(auth: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(auth, validate=True).rstrip(b"\0").decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidArgumentError("auth of the registry is not base64 of NAME:PASSWORD") from None
    username, colon, password = text.partition(":")
    if not colon:
        raise InvalidArgumentError("auth of the registry is not base64 of NAME:PASSWORD")
    return username, password


def _host(address: str) -> str:
    """Return the registry of an address as docker's configuration has them: ``https://host/v1/``, or a host."""
    return _canonical(address.partition("://")[2].partition("/")[0] if "://" in address else address.partition("/")[0])


def _canonical(host: str) -> str:
    return DEFAULT_REGISTRY if host in _HUB else host.lower()
