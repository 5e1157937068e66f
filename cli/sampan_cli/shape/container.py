"""A container as ``sampan inspect`` prints it: Docker's view, with Go's nulls for templates."""

from sampan.docker.container_view import inspect_json
from sampan.resource.container import ContainerDetails
from sampan_cli.shape.go import go_value
from sampan_cli.template.functions import ABSENT, ABSENT_LIST, ABSENT_TEXT


def shape_container(container: ContainerDetails) -> dict[str, object]:
    """Return everything that is known about a container, also what Docker has no name for."""
    shown = go_value(inspect_json(container))
    _default(shown, "Config", Healthcheck=ABSENT, StopTimeout=ABSENT, StopSignal=ABSENT_TEXT, Shell=ABSENT_LIST)
    _default(shown, "State", Health=ABSENT)
    own = {"SizeRw": ABSENT, "RootPath": container.root_path, "CgroupPath": container.cgroup_path}
    return own | shown


def _default(shown: dict[str, object], name: str, **absent: object) -> None:
    """Let a template ask for members that are left out."""
    member = shown[name]
    assert isinstance(member, dict)
    shown[name] = absent | member
