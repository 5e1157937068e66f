"""What ``docker logs --details`` shows before each line: labels and variables that the log's options name."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote_plus

from sampan.pattern import Pattern
from sampan.resource.container_spec import ContainerSpec

if TYPE_CHECKING:
    from sampan.resource.protocols import Containers


async def log_details(containers: "Containers", container: str) -> bytes:
    """Return what to put before each line of a container's log, at least a space.

    Raises:
        NotFoundError: there is no such container.
    """
    return details((await containers.get(container)).spec)


def details(spec: ContainerSpec) -> bytes:
    """See ``log_details``."""
    variables = dict(text.partition("=")[::2] for text in spec.process.env)
    chosen = {
        **dict(_chosen(spec.labels, spec.log.options, "labels")),
        **dict(_chosen(variables, spec.log.options, "env")),
    }
    return ",".join(f"{quote_plus(key)}={quote_plus(chosen[key])}" for key in sorted(chosen)).encode() + b" "


def _chosen(values: Mapping[str, str], options: Mapping[str, str], name: str) -> Iterator[tuple[str, str]]:
    """Yield the members of ``values`` that the options ``name``, a list, and ``name``-regex ask for."""
    names = options.get(name, "").split(",")
    expression = options.get(f"{name}-regex", "")
    matches = Pattern(expression).found_in if expression else _nothing
    for key, value in values.items():
        if key in names or matches(key):
            yield key, value


def _nothing(_key: str) -> bool:
    return False
