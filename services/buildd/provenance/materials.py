"""What a result was made from: images, repositories, downloads, and what only its client knows.

Reference: moby/buildkit, docs/attestations/slsa-definitions.md; the package URL specification.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from buildd.llb.ops import ExecOp, MountType, NetMode, Node, SourceOp
from sampan.json_types import JsonObject
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.oci.reference import parse_reference

_SAFE: Final = ":~"  # beside letters, digits and "-._", which are never escaped
_MASK: Final = "xxxxx"
_TOKENS: Final = {"git.authtokensecret": "GIT_AUTH_TOKEN", "git.authheadersecret": "GIT_AUTH_HEADER"}


@dataclass(frozen=True, slots=True)
class ImageMaterial:
    """An image that something was taken from."""

    reference: str
    platform: Platform | None
    digest: Digest
    local: bool = False  # from a client's OCI layout


@dataclass(slots=True)
class Materials:
    """What is known of a result's origin; filled step by step."""

    images: list[ImageMaterial] = field(default_factory=list)
    git: dict[str, str] = field(default_factory=dict)  # commits by URL
    downloads: dict[str, Digest] = field(default_factory=dict)  # by URL
    directories: set[str] = field(default_factory=set)  # of the client, by name
    secrets: dict[str, bool] = field(default_factory=dict)  # by ID: whether it may be missing
    agents: dict[str, bool] = field(default_factory=dict)  # likewise
    network: bool = False  # whether a process could reach others

    @property
    def complete(self) -> bool:
        """Whether everything is known by its digest."""
        return not self.directories

    def add(self, node: Node, pin: str) -> None:
        """Note what a vertex takes from outside; ``pin`` is what its source was."""
        match node.op:
            case SourceOp() as op:
                self._add_source(op, node.platform, pin)
            case ExecOp() as op:
                self._add_process(op)

    def add_image(self, image: ImageMaterial) -> None:
        """Note an image, once for each platform."""
        if not any((each.reference, each.platform, each.local) == (image.reference, image.platform, image.local)
                   for each in self.images):  # fmt: skip
            self.images.append(image)

    def _add_source(self, op: SourceOp, platform: Platform | None, pin: str) -> None:
        scheme, _, rest = op.identifier.partition("://")
        match scheme:
            case "docker-image" | "oci-layout":
                self.add_image(ImageMaterial(rest, platform, Digest(pin), local=scheme == "oci-layout"))
            case "git":
                place, _, fragment = rest.partition("#")
                ref = fragment.partition(":")[0]
                remote = op.attrs.get("git.fullurl", "").partition("#")[0] or f"https://{place}"
                self.git[redacted(remote) + (f"#{ref}" if ref else "")] = pin
                for name in _TOKENS:
                    if op.attrs.get(name):
                        self.secrets.setdefault(op.attrs[name], True)
            case "http" | "https":
                self.downloads[redacted(op.identifier)] = Digest(pin)
            case _:
                self.directories.add(rest)

    def _add_process(self, op: ExecOp) -> None:
        self.network = self.network or op.network is not NetMode.NONE
        for mount in op.mounts:
            if mount.type is MountType.SECRET and mount.secret is not None:
                _note(self.secrets, mount.secret.id, optional=mount.secret.optional)
            elif mount.type is MountType.SSH and mount.ssh is not None:
                _note(self.agents, mount.ssh.id or "default", optional=mount.ssh.optional)
        for each in op.secret_env:
            _note(self.secrets, each.id, optional=each.optional)

    def listed(self) -> Sequence[JsonObject]:
        """Return what has a digest: URIs and digests, kind by kind."""
        found: list[JsonObject] = [
            {"uri": package_url(each.reference, each.platform, local=each.local), "digest": digest_set(each.digest)}
            for each in sorted(_named(self.images), key=lambda each: each.reference)
        ]
        found += [{"uri": url, "digest": commit_set(commit)} for url, commit in sorted(self.git.items())]
        found += [{"uri": url, "digest": digest_set(digest)} for url, digest in sorted(self.downloads.items())]
        return found


def _note(found: dict[str, bool], id: str, *, optional: bool) -> None:
    found[id] = found.get(id, True) and optional


def _named(images: Sequence[ImageMaterial]) -> Iterable[ImageMaterial]:
    """Leave out what is named by its digest if the same tag is there without."""
    parsed = [(parse_reference(each.reference).with_default_tag(), each) for each in images]
    tags = {(reference.name, reference.tag or "latest") for reference, _ in parsed if reference.digest is None}
    for reference, each in parsed:
        if reference.digest is None or (reference.name, reference.tag or "latest") not in tags:
            yield each


def package_url(reference: str, platform: Platform | None, *, local: bool = False) -> str:
    """Return an image's name as a package URL."""
    parsed = parse_reference(reference).with_default_tag()
    path = "/".join(quote(part, safe=_SAFE) for part in parsed.familiar_name.split("/"))
    tag = f"@{quote(parsed.tag, safe=_SAFE)}" if parsed.tag else ""
    qualifiers = {"digest": parsed.digest or "", "platform": str(platform or "")}
    told = "&".join(f"{name}={quote(value, safe=_SAFE)}" for name, value in qualifiers.items() if value)
    return f"pkg:{'oci' if local else 'docker'}/{path}{tag}" + (f"?{told}" if told else "")


def digest_set(digest: Digest) -> Mapping[str, str]:
    """Return a digest by its algorithm."""
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


def commit_set(commit: str) -> Mapping[str, str]:
    """Return a commit as a digest."""
    return {"sha256" if len(commit) == 64 else "sha1": commit}


def redacted(url: str) -> str:
    """Return a URL without the credentials in it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    user, at, host = parts.netloc.rpartition("@")
    if not at or not user:
        return url
    return urlunsplit(parts._replace(netloc=f"{_MASK}:{_MASK}@{host}" if ":" in user else f"{_MASK}@{host}"))
