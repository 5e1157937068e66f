"""What crid knows of a container, which runtimed keeps and runs."""

import hashlib
from dataclasses import dataclass
from typing import Final

from crid.model.config import ContainerConfig
from crid.model.security import NamespaceOption
from crid.sandboxes.model import Sandbox
from sampan.limits import NAME_CHARACTERS

OWNER = "cri"  # of all containers of pods, as runtimed has it

_DIGEST_CHARACTERS: Final = 16


@dataclass(frozen=True, slots=True)
class Image:
    """The image that a container was made of."""

    id: str
    name: str  # a tag of it, or what was asked for
    ref: str  # a digest of a repository's, or its ID


@dataclass(frozen=True, slots=True)
class Record:
    """A container's record."""

    name: str  # runtimed's, of this container alone
    sandbox: str  # its ID
    created_ns: int
    config: ContainerConfig
    image: Image
    log_path: str  # absolute; empty: nothing is kept
    id: str = ""  # runtimed's; empty until it has one


def container_name(sandbox: Sandbox, config: ContainerConfig) -> str:
    """Return what runtimed calls a container, as dockershim did and administrators know it."""
    pod, said = sandbox.config.metadata, config.metadata
    return fitted(f"k8s_{said.name}_{pod.name}_{pod.namespace}_{pod.uid}_{said.attempt}")


def fitted(name: str) -> str:
    """Return a name that runtimed takes: a longer one, as Kubernetes allows, ends with a digest of the whole."""
    if len(name) <= NAME_CHARACTERS:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{name[: NAME_CHARACTERS - _DIGEST_CHARACTERS - 1]}_{digest}"


def namespaces_of(sandbox: Sandbox, config: ContainerConfig) -> NamespaceOption:
    """Return whose namespaces a container has: those of its sandbox if it does not say."""
    return config.linux.security_context.namespace_options or sandbox.namespaces
