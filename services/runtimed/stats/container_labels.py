"""Which labels of containers Prometheus gets, and how much of them: both are strangers' choice.

Labels times series is what an exposition grows with: fifty series of one container with 9,900 labels were 531 MB. So
series carry the few labels that dashboards group by, ``metrics_labels``, and all others are said once per container,
in ``sampan_container_info``, from where a query joins them on ``id``. That is bounded per container and in all; what
is left out is counted.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sampan.metrics.text import label_text
from sampan.resource.container import Container

# What cAdvisor's dashboards, compose's and Kubernetes' group by.
DEFAULT_LABELS: Final = (
    "com.docker.compose.project",
    "com.docker.compose.service",
    "com.docker.compose.container-number",
    "io.kubernetes.container.name",
    "io.kubernetes.pod.name",
    "io.kubernetes.pod.namespace",
    "io.kubernetes.pod.uid",
)

_MAX_PER_CONTAINER: Final = 64
_MAX_LENGTH: Final = 256  # of a name, and of a value, in characters
_MAX_IN_ALL: Final = 1 << 20  # characters of names and values of all containers
_NOT_IN_A_NAME: Final = re.compile(r"[^a-zA-Z0-9_]")


def label_name(name: str) -> str:
    """Return what a container's label is called, as by cAdvisor."""
    return f"container_label_{_NOT_IN_A_NAME.sub('_', name)}"


@dataclass(slots=True)
class LeftOut:
    """How many labels were left out of one scrape, by reason."""

    per_container: int = 0  # more than _MAX_PER_CONTAINER
    too_long: int = 0
    in_all: int = 0  # more text than _MAX_IN_ALL


@dataclass(frozen=True, slots=True)
class ContainerLabels:
    """The choice."""

    on_series: Sequence[str] = DEFAULT_LABELS
    _names: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", {label_name(name): name for name in self.on_series[:_MAX_PER_CONTAINER]})

    def among(self, containers: Sequence[Container]) -> "ContainerLabels":
        """Return the choice without those labels that no container has."""
        return ContainerLabels([name for name in self.on_series if any(name in c.spec.labels for c in containers)])

    def of_host(self) -> str:
        """Return the labels of the host's rows: all samples of a family have the same ones."""
        return label_text({"id": "/", "image": "", "name": "", **dict.fromkeys(self._names, "")})

    def of_series(self, container: Container) -> str:
        """Return the labels of a container's rows."""
        given = container.spec.labels
        chosen = {shown: given.get(name, "")[:_MAX_LENGTH] for shown, name in self._names.items()}
        return label_text(_identity(container) | chosen)

    def info(self, containers: Sequence[Container], left_out: LeftOut) -> Iterator[str]:
        """Yield what ``sampan_container_info`` says of each container: its labels within the bounds.

        Args:
            containers: in the order in which they are served; the last ones go short.
            left_out: counts what is not told.
        """
        room = _MAX_IN_ALL
        for container in containers:
            labels = _identity(container)
            taken = 0
            for name, value in container.spec.labels.items():
                if len(name) > _MAX_LENGTH or len(value) > _MAX_LENGTH:
                    left_out.too_long += 1
                elif taken == _MAX_PER_CONTAINER:
                    left_out.per_container += 1
                elif (size := len(name) + len(value)) > room:
                    left_out.in_all += 1
                else:
                    labels[label_name(name)] = value
                    taken, room = taken + 1, room - size
            yield label_text(labels)


def _identity(container: Container) -> dict[str, str]:
    return {"id": container.cgroup_path, "image": container.spec.image, "name": container.name}
