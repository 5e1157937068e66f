"""A run option is made in a few places; whoever forgets one is told which.

What a container is asked to be stands in ``sampan/resource/container_spec.py``. Each of its fields has to be known to
runtimed, which acts on it, to Docker's views, to the API's way in and to the command line, or be excused here.
"""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from sampan.docker.options.devices import DEVICE_LIMITS
from sampan.docker.views.host_config_view import LIMITS
from sampan.resource import container_spec

ROOT = Path(__file__).parents[2]

PLACES = {
    "what acts on it: services/runtimed": ("services/runtimed",),
    "Docker's views: sampan/docker": ("sampan/docker/views/*_view.py",),
    "the API's way in: services/dockerapi/container": ("services/dockerapi/container", "sampan/docker/options"),
    "the command line: cli/sampan_cli/options": ("cli/sampan_cli", "sampan/docker/options", "sampan/engine"),
}

# Fields whose names a place does not have, and why it need not know them.
_ACTS, _VIEWS, _API, _COMMAND = PLACES
EXCUSED = (
    {
        ("Process.entrypoint", _ACTS): "Process.args puts it before cmd",
        ("ContainerSpec.platform", _ACTS): "shown; the image has been chosen by it",
        ("Mount.tmpfs_mode", _ACTS): "an option of the mount: sampan/docker/options/tmpfs.py",
        ("ContainerSpec.chain_id", _VIEWS): "clients know images, not snapshots",
        ("ContainerSpec.chain_id", _API): "the image's, filled in by the engine",
        ("Mount.chain_id", _VIEWS): "clients know images, not snapshots",
        ("Mount.chain_id", _API): "the image's, filled in by the engine",
    }
    | {
        (f"Mount.{field}", _VIEWS): "in HostConfig.Mounts, which shows what the client sent"
        for field in (
            "create_source",
            "no_copy",
            "non_recursive",
            "read_only_non_recursive",
            "read_only_force_recursive",
            "volume_labels",
            "volume_options",
        )
    }
    | {
        (option, place): "the image's, filled in by the engine, and shown"
        for place, more in ((_ACTS, ()), (_API, ("ImageManifest.digest", "ImageManifest.architecture")))
        for option in (
            "ContainerSpec.image_manifest",
            *(f"ImageManifest.{field}" for field in ("media_type", "os", "variant")),
            *more,
        )
    }
    | {("Process.own_entrypoint", place): "settled when the image is looked at" for place in (_ACTS, _VIEWS)}
    | {(f"Resources.{field}", _VIEWS): "by the table in sampan/docker/options/devices.py" for field in DEVICE_LIMITS}
    | {
        (f"Security.{field}", _COMMAND): "docker's command line has no flag for it, either"
        for field in ("masked_paths", "readonly_paths", "own_paths")
    }
    | {
        (option, place): "a pod's, which neither front has a word for"
        for option in (
            "Process.strict_groups",
            "Mount.uid_mappings",
            "Mount.gid_mappings",
            "Namespaces.uid_mappings",
            "Namespaces.gid_mappings",
            "Security.cap_add_ambient",
            "IdMapping.host_id",
        )
        for place in (_VIEWS, _API, _COMMAND)
    }
    | {
        (option, _VIEWS): "a pod's, which is not shown"
        for option in (
            "ContainerSpec.owner",
            "Resources.hugepage_limits",
            "Resources.unified",
            "HugepageLimit.page_size",
        )
    }
    | {
        ("HugepageLimit.limit_bytes", _API): "a pod's, which neither front has a word for",
        ("IdMapping.container_id", _COMMAND): "a pod's, which neither front has a word for",
        ("Mount.inherited", _VIEWS): "by the mode in Mounts, which is empty",
    }
    | {
        (option, _VIEWS): "of one start, and not of the container"
        for option in ("ConsoleSize.height", "ConsoleSize.width", "Process.console_size")
    }
)


def options() -> Iterator[tuple[str, str]]:
    """Yield class and field of everything that a spec is made of."""
    for kind in vars(container_spec).values():
        if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind.__module__ == container_spec.__name__:
            for field in dataclasses.fields(kind):
                yield kind.__name__, field.name


FIELDS = {kind: tuple(field for each, field in options() if each == kind) for kind, _ in options()}


def names_in(*folders: str) -> set[str]:
    """Return the names of attributes, keywords and annotated fields in the files of some folders."""
    found: set[str] = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py") if "*" not in folder else ROOT.glob(folder):
            if "wire" in path.relative_to(ROOT).parts:
                continue  # conversions copy whatever there is
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute):
                    found.add(node.attr)
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FIELDS:
                    found.update(FIELDS[node.func.id][: len(node.args)])
                    found.update(keyword.arg for keyword in node.keywords if keyword.arg)
                elif isinstance(node, ast.keyword) and node.arg:
                    found.add(node.arg)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                    found.add(node.value)  # a key that becomes the name of a field
                elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                    found.add(node.target.id)
    return found


def unknown_to(place: str) -> list[str]:
    """Return the fields whose names a place does not have."""
    known = names_in(*PLACES[place])
    if place == _API:
        known |= LIMITS.keys()
    return [f"{kind}.{field}" for kind, field in options() if field not in known]


@pytest.mark.parametrize("place", PLACES)
def test_every_option_is_known_wherever_options_are_made(place: str) -> None:
    unknown, excused = unknown_to(place), {option for option, where in EXCUSED if where == place}
    assert [option for option in unknown if option not in excused] == [], f"forgotten in {place}"
    assert sorted(excused.difference(unknown)) == [], f"excused in {place} without need: take it out of EXCUSED"


def test_nothing_is_excused_in_a_place_that_is_none() -> None:
    assert {place for _, place in EXCUSED} <= PLACES.keys()
