"""The contracts between buildd's rooms; tests put fakes in their place.

A *frontend* turns a Dockerfile into a graph of ``llb.ops`` nodes. What it needs to know on the way, it asks of
the build through a ``Bridge``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from buildd.llb.ops import Edge, Position
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class ImageQuery:
    """Which image's config is asked for."""

    reference: str  # complete: registry, repository and tag or digest
    platform: Platform
    mode: str = "default"  # "pull": ask the registry even if the image is here; "local": do not if it is
    step: str = ""  # what progress shows
    layout: str = ""  # the client's OCI layout that has it, instead of a registry


@dataclass(frozen=True, slots=True)
class ResolvedImage:
    """An image that a FROM or COPY --from names, for one platform."""

    reference: str  # complete; another one if a policy of the build replaces it
    digest: Digest | None  # of the manifest or index that the name leads to
    config: bytes  # the image's config, JSON


class Files(Protocol):
    """Read access to one result. Every path is resolved inside it; links lead where they lead inside."""

    async def read_file(self, path: str, length: int = 0) -> bytes:
        """Return a file's content, ``length`` bytes of it at most; 0 is all of it.

        Raises:
            NotFoundError: no such file.
        """


@dataclass(frozen=True, slots=True)
class BuildWarning:
    """What a frontend thinks of a Dockerfile."""

    rule: str
    message: str  # "Rule: what is wrong (line 3)"
    detail: tuple[str, ...] = ()
    url: str = ""
    positions: tuple[Position, ...] = ()


class Bridge(Protocol):
    """What a frontend can ask of the build that it works for."""

    async def solve(self, edge: Edge) -> Files:
        """Run a graph up to ``edge`` and return read access to the result. Raises what the step raises."""

    async def resolve_config(self, query: ImageQuery) -> ResolvedImage:
        """Return an image's config.

        Raises:
            NotFoundError: no such image, or nothing for the platform; in Docker's words.
            PermissionDeniedError, UnavailableError: the registry says no, or nothing.
        """

    async def warn(self, warning: BuildWarning) -> None:
        """Show a warning."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a frontend returns: one edge per platform, and metadata under BuildKit's names.

    Metadata of the only platform has no suffix; of several, each key ends in ``/<platform ID>``. An edge of None is an
    empty tree: nothing was put into ``scratch``.
    """

    edges: Mapping[str, Edge | None]  # by platform ID; "" if one platform is all that the result can have
    metadata: Mapping[str, bytes] = field(default_factory=dict)
