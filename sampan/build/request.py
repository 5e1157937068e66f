"""What a client asks a builder for.

Reference: ``SolveRequest``, ``PruneRequest`` and ``UsageRecord`` of moby/buildkit, api/services/control/control.proto.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from sampan.build.policy import Rule
from sampan.errors import InvalidArgumentError
from sampan.oci.reference import parse_reference

# The frontend that is built in, and what a client uploads on its session is kept below.
DOCKERFILE_FRONTEND: Final = "dockerfile.v0"
UPLOADED: Final = "http://buildkit-session"

# Entitlements: what a client grants the steps of its build.
NETWORK_HOST: Final = "network.host"
SECURITY_INSECURE: Final = "security.insecure"


@dataclass(frozen=True, slots=True)
class Export:
    """What a client wants with a result."""

    type: str  # "image", "moby", "docker", "oci", "tar", "local"; "" for nothing
    attributes: Mapping[str, str] = field(default_factory=dict)
    id: str = ""  # of the output, where a client has several


@dataclass(frozen=True, slots=True)
class CacheOption:
    """Where results of earlier builds are looked for, or those of this one are put."""

    type: str  # "inline", "registry", "local"
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SolveRequest:
    """One build."""

    ref: str  # made up by the client; names the build in every other call
    session: str = ""  # ID of the session on which the client is called back
    shared_key: str = ""
    frontend: str = (
        ""  # "dockerfile.v0", "gateway.v0"; "" with a definition, or for a client that drives the build itself
    )
    frontend_attributes: Mapping[str, str] = field(default_factory=dict)
    definition: bytes | None = None  # pb.Definition
    frontend_inputs: Mapping[str, bytes] = field(default_factory=dict)  # pb.Definition by name
    exports: tuple[Export, ...] = ()
    cache_imports: tuple[CacheOption, ...] = ()
    cache_exports: tuple[CacheOption, ...] = ()
    entitlements: frozenset[str] = frozenset()
    policy: tuple[Rule, ...] = ()  # of sources
    policy_session: str = ""  # ID of the session whose client decides on each source
    internal: bool = False  # kept out of the history


@dataclass(frozen=True, slots=True)
class SolveResponse:
    """What came of it."""

    exporter_response: Mapping[str, str]  # "containerimage.digest", "containerimage.config.digest", …

    @property
    def image_id(self) -> str:
        """The ID of the image that was made; empty if none was."""
        told = self.exporter_response
        return told.get("containerimage.config.digest") or told.get("containerimage.digest", "")


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One part of the build cache."""

    id: str
    size_bytes: int
    description: str = ""
    type: str = "regular"  # or "source.local", "source.git.checkout", "exec.cachemount", "frontend", "internal"
    parents: tuple[str, ...] = ()
    mutable: bool = False
    in_use: bool = False
    shared: bool = False  # images use it, too
    created_ns: int = 0
    last_used_ns: int = 0  # 0: never
    usage_count: int = 0


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """Which records go: those that match all filters, least recently used first, until the limits hold."""

    filters: tuple[str, ...] = ()
    all: bool = False  # also internal records and those that images share
    keep_duration_ns: int = 0  # what was used since then stays
    reserved_bytes: int = 0  # stays in any case
    max_used_bytes: int = 0
    min_free_bytes: int = 0


def image_names(tags: Iterable[str]) -> str:
    """Return the ``name`` of an export: what users call an image, as whole names.

    Raises:
        InvalidArgumentError: in Docker's words, no name, or one with a digest, which only the build decides.
    """
    references = [parse_reference(tag) for tag in tags]
    if any(reference.digest is not None for reference in references):
        raise InvalidArgumentError("build tag cannot contain a digest")
    return ",".join(str(reference.with_default_tag()) for reference in references)


STEP_NETWORKS: Final = frozenset(("", "default", "host", "none"))

# The frontend's attribute with a container's network mode, for every RUN that says nothing of its network. BuildKit has
# none: it is sent for clients of Docker's classic builds.
NETWORK_MODE: Final = "network-mode"


def step_network(mode: str) -> tuple[dict[str, str], frozenset[str]]:
    """Return the frontend's attributes for the network of steps, and what a client grants by naming it.

    Raises:
        InvalidArgumentError: a network that steps cannot have.
    """
    if mode not in STEP_NETWORKS:
        raise InvalidArgumentError(f'network mode "{mode}" not supported by buildkit')
    attributes = {"force-network-mode": mode} if mode in ("host", "none") else {}
    return attributes, frozenset({NETWORK_HOST} if mode == "host" else ())
