"""A manifest list: made of manifests that a registry has, shown, and brought there.

The list's bytes are those that the docker command makes of the same manifests, so that it has the same digest.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sampan.errors import InvalidArgumentError, NotFoundError, RemoteError
from sampan.json_types import JsonObject
from sampan.oci.descriptor import DOCKER_INDEX, INDEXES, MANIFESTS, OCI_INDEX, OCI_MANIFEST, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.json_documents import load_json
from sampan.oci.manifest import Manifest, parse_document
from sampan.oci.reference import Reference
from sampan.resource.image import Credentials, RemoteManifest
from sampan_cli.manifests.store import ListedManifest, ListedPlatform, go_json

# Go's architectures by system, as far as the docker command knows them.
KNOWN: Final = {
    "darwin": ("386", "amd64", "arm", "arm64"),
    "dragonfly": ("amd64",),
    "freebsd": ("386", "amd64", "arm"),
    "linux": ("386", "amd64", "arm", "arm64", "ppc64le", "mips64", "mips64le", "riscv64", "s390x"),
    "netbsd": ("386", "amd64", "arm"),
    "openbsd": ("386", "amd64", "arm"),
    "plan9": ("386", "amd64"),
    "solaris": ("amd64",),
    "windows": ("386", "amd64"),
}


class RemoteManifests(Protocol):
    """What reads and writes manifests; ``resource.storage.images.Images`` says what each promises."""

    async def manifest(
        self, reference: str, credentials: Credentials | None = None, *, insecure: bool = False
    ) -> RemoteManifest:
        """Read one at its registry."""

    async def put_manifest(
        self, reference: str, media_type: str, content: bytes, *, mount_from: str = "",
        credentials: Credentials | None = None, insecure: bool = False,
    ) -> Digest:  # fmt: skip
        """Give a repository one."""


@dataclass(frozen=True, slots=True)
class Registry:
    """Manifests at registries, for one user."""

    manifests: RemoteManifests
    credentials: Callable[[str], Awaitable[Credentials | None]]  # for an image's registry
    insecure: bool

    async def find(self, reference: Reference) -> RemoteManifest:
        """Return what a name points to. NotFoundError: in Docker's words, nothing."""
        credentials = await self.credentials(str(reference))
        try:
            return await self.manifests.manifest(str(reference), credentials, insecure=self.insecure)
        except NotFoundError as error:
            raise NotFoundError(f"no such manifest: {reference}") from error

    async def members(self, reference: Reference, index: RemoteManifest) -> list[ListedManifest]:
        """Return all that an index lists, each read from its registry, for the platforms that the index says.

        Raises:
            RemoteError: one of them is an index itself.
        """
        members = []
        for target, platform in entries(index, reference):
            if target.media_type not in MANIFESTS:
                raise RemoteError(f"{reference}: unsupported manifest type: {target.media_type}")
            name = Reference(reference.registry, reference.repository, reference.tag, target.digest)
            found = await self.find(name)
            members.append(ListedManifest(name, found.target, platform, found.content))
        return members

    async def push(self, target: Reference, members: Sequence[ListedManifest], tell: Callable[[str], None]) -> Digest:
        """Bring a list to its registry, manifests of other repositories before it; ``tell`` what became of those.

        Raises:
            InvalidArgumentError: the list cannot be one; see ``document``.
            Others as ``Images.put_manifest``.
        """
        content = document(target, members, whole=True)
        media_type = list_type([member.target for member in members])
        credentials = await self.credentials(str(target))
        for member in members:
            if member.reference.name == target.name:
                continue
            name = Reference(target.registry, target.repository, digest=member.target.digest)
            manifest = member.content or (await self.find(_by_digest(member))).content
            digest = await self.manifests.put_manifest(
                str(name),
                member.target.media_type,
                manifest,
                mount_from=member.reference.repository,
                credentials=credentials,
                insecure=self.insecure,
            )
            tell(f"Pushed ref {name} with digest: {digest}")
        return await self.manifests.put_manifest(
            str(target), media_type, content, credentials=credentials, insecure=self.insecure
        )


def entries(index: RemoteManifest, reference: Reference) -> list[tuple[Descriptor, ListedPlatform]]:
    """Return what an index lists. Raises RemoteError, also for what is no index."""
    what = str(reference)
    parsed = parse_document(index.content, index.target.media_type, what)
    raw = load_json(index.content, what)
    if isinstance(parsed, Manifest) or not isinstance(raw, dict):
        raise RemoteError(f"{what} is no manifest list")
    platforms = [ListedPlatform.read(each.get("platform") or {}) for each in raw["manifests"]]
    return [(entry.descriptor, platform) for entry, platform in zip(parsed, platforms, strict=True)]


def is_list(found: RemoteManifest) -> bool:
    """Say whether a registry has an index there."""
    return found.target.media_type in INDEXES


def document(target: Reference, members: Iterable[ListedManifest], *, whole: bool) -> bytes:
    """Return a list's bytes; ``whole``: it is to be pushed, so it must say what each manifest is for.

    Raises:
        InvalidArgumentError: in Docker's words, a manifest of another registry, or one that says not what it is for.
    """
    listed = []
    for member in members:
        platform = member.platform or ListedPlatform()
        if whole and not (platform.os and platform.architecture):
            raise InvalidArgumentError(
                f"manifest {member.reference} must have an OS and Architecture to be pushed to a registry"
            )
        if member.reference.registry != target.registry:
            raise InvalidArgumentError(
                "cannot use source images from a different registry than the target image: "
                f"{member.reference.registry} != {target.registry}"
            )
        listed.append((member.target, platform))
    return rendered(listed)


def rendered(listed: Sequence[tuple[Descriptor, ListedPlatform]]) -> bytes:
    """Return the bytes of a list of manifests."""
    shown: JsonObject = {
        "schemaVersion": 2,
        "mediaType": list_type([target for target, _ in listed]),
        "manifests": [
            {
                "mediaType": target.media_type,
                "size": target.size,
                "digest": target.digest,
                "platform": platform.document(),
            }
            for target, platform in listed
        ],
    }
    return go_json(shown, "   ").encode()


def list_type(targets: Sequence[Descriptor]) -> str:
    """Return the media type of a list: its first manifest's kind."""
    return OCI_INDEX if targets and targets[0].media_type == OCI_MANIFEST else DOCKER_INDEX


def _by_digest(member: ListedManifest) -> Reference:
    return Reference(member.reference.registry, member.reference.repository, digest=member.target.digest)
