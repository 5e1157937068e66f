"""Image names as people type them and as registries know them.

The grammar is that of the distribution project's reference package, which Docker follows: a first component
with a dot, a colon or an upper-case letter, or ``localhost``, is a registry; everything else is on Docker's own.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest

DEFAULT_REGISTRY: Final = "docker.io"
DEFAULT_TAG: Final = "latest"
_OFFICIAL: Final = "library/"

# The distribution spec's limit on "<registry>/<repository>".
_MAX_NAME: Final = 255

_COMPONENT: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REPOSITORY: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_LABEL: Final = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_TAG: Final = re.compile(r"[\w][\w.-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed image name; at least one of ``tag`` and ``digest`` may be absent."""

    registry: str  # "docker.io", "localhost:5000"
    repository: str  # "library/debian"
    tag: str | None = None
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar_name(self) -> str:
        """The name as Docker shows it: without its own registry and ``library/``."""
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        repository = self.repository
        rest = repository.removeprefix(_OFFICIAL)
        return rest if "/" not in rest else repository

    @property
    def familiar(self) -> str:
        """The whole reference as Docker shows it."""
        return self.familiar_name + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag is not None else ""
        digest = f"@{self.digest}" if self.digest is not None else ""
        return tag + digest

    def __str__(self) -> str:
        return self.name + self._suffix()

    @property
    def is_name_only(self) -> bool:
        """Whether it has neither tag nor digest, and can mean all of a repository."""
        return self.tag is None and self.digest is None

    def with_default_tag(self) -> "Reference":
        """Return this, with ``latest`` if it has neither tag nor digest."""
        if self.is_name_only:
            return replace(self, tag=DEFAULT_TAG)
        return self


def parse_reference(text: str) -> Reference:
    """Parse a name such as ``debian``, ``localhost:5000/a/b:1`` or ``x@sha256:…``.

    Raises:
        InvalidArgumentError: in Docker's words, ``invalid reference format``.
    """
    rest, at, digest_text = text.partition("@")
    digest = _parse_digest(digest_text, text) if at else None
    head, slash, tail = rest.partition("/")
    if slash and _looks_like_registry(head):
        registry, path = head, tail
    else:
        registry, path = DEFAULT_REGISTRY, rest
    path, colon, tag = path.partition(":")
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = _OFFICIAL + path
    if path != path.lower() and _REPOSITORY.fullmatch(path.lower()):
        raise _invalid(text, f"repository name ({path.removeprefix(_OFFICIAL)}) must be lowercase")
    if not _REGISTRY.fullmatch(registry) or not _REPOSITORY.fullmatch(path):
        raise _invalid(text)
    if colon and not _TAG.fullmatch(tag):
        raise _invalid(text)
    if len(registry) + 1 + len(path) > _MAX_NAME:
        raise _invalid(text, f"repository name must not be more than {_MAX_NAME} characters")
    return Reference(registry, path, tag if colon else None, digest)


def split_term(term: str) -> tuple[str, str]:
    """Return the registry that is asked for what somebody searches for, and what it is asked.

    Less looks like a registry here than in a reference: a term is no name, and may have letters of any case.
    """
    head, slash, tail = term.partition("/")
    registry, name = (head, tail) if slash and (head == "localhost" or set(".:") & set(head)) else ("", term)
    if registry in ("", DEFAULT_REGISTRY, f"index.{DEFAULT_REGISTRY}"):
        return DEFAULT_REGISTRY, name.removeprefix(_OFFICIAL)
    return registry, name


def _looks_like_registry(head: str) -> bool:
    return head == "localhost" or any(c in head for c in ".:") or head != head.lower()


def _parse_digest(digest: str, whole: str) -> Digest:
    try:
        return Digest.parse(digest)
    except InvalidArgumentError as error:
        raise _invalid(whole) from error


def _invalid(text: str, why: str = "") -> InvalidArgumentError:
    shown = text if len(text) <= 300 else f"{text[:300]}…"
    reason = f": {why}" if why else ""
    return InvalidArgumentError(f"invalid reference format{reason} ({shown!r})")


def in_one_repository(names: Iterable[Reference]) -> bool:
    """Say whether these are at most one tag, and digests of the same repository."""
    names = tuple(names)
    tags = [name for name in names if name.digest is None]
    return len(tags) <= 1 and len({name.name for name in names}) <= 1
