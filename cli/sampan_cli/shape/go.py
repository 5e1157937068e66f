"""Docker's JSON as Go's templates see it: maps apart from structures, and nulls that know what they are none of."""

from typing import Final

from sampan.docker.views import container_view, image_view, info_view
from sampan.docker.views.info_view import EngineFacts
from sampan.layout import Layout
from sampan.resource.container import ContainerDetails
from sampan.resource.image import ImageDetails
from sampan_cli.template.functions import (
    ABSENT,
    ABSENT_LIST,
    ABSENT_MAP,
    ABSENT_TEXT,
    NIL,
    NIL_LIST,
    NIL_MAP,
    GoMap,
    Nil,
)

# What Docker leaves out where an image does not say it, by what Go prints for that.
_ABSENT: dict[str, object] = {
    "ExposedPorts": ABSENT_MAP,
    "Healthcheck": ABSENT,
    "ArgsEscaped": Nil("false", omitted=True),
    "StopSignal": ABSENT_TEXT,
    "Shell": ABSENT_LIST,
}
_NULL = {"Env": NIL_LIST, "OnBuild": NIL_LIST}


def shape_image(image: ImageDetails, size_bytes: int, driver: str) -> dict[str, object]:
    """Return everything that is known about an image, under Docker's names.

    ``size_bytes`` is that of its layers on disk, ``driver`` what holds them.
    """
    view = image_view.inspect_json(image, size_bytes, driver)
    config = go_value(view["Config"])
    nulls = {name: null for name, null in _NULL.items() if view["Config"][name] is None}
    shown = go_value(view) | {
        "Config": _ABSENT | config | nulls,
        "GraphDriver": {"Data": NIL_MAP, "Name": driver},
    }
    return {"Variant": ABSENT_TEXT, "OsVersion": ABSENT_TEXT} | shown


def shape_container(container: ContainerDetails, root_bytes: int | None = None) -> dict[str, object]:
    """Return everything that is known about a container, also what Docker has no name for.

    ``root_bytes`` is the size of its file system; None: nobody asked.
    """
    sizes = {} if root_bytes is None else {"SizeRootFs": root_bytes}
    shown = go_value(container_view.inspect_json(container) | sizes)
    _default(shown, "Config", Healthcheck=ABSENT, StopTimeout=ABSENT, StopSignal=ABSENT_TEXT, Shell=ABSENT_LIST)
    _default(shown, "State", Health=ABSENT)
    maps = dict.fromkeys(("Annotations", "StorageOpt", "Sysctls", "Tmpfs"), ABSENT_MAP)
    _default(shown, "HostConfig", Init=ABSENT, Mounts=ABSENT_LIST, **maps)
    own = {"SizeRw": ABSENT, "SizeRootFs": ABSENT, "RootPath": container.root_path, "CgroupPath": container.cgroup_path}
    return own | shown


def shape_info(facts: EngineFacts, layout: Layout) -> dict[str, object]:
    """Return what ``info`` shows, and what Docker has no name for: this engine's roots, socket and programs."""
    host = facts.host
    own = {
        "BackingFilesystem": facts.drivers.backing_filesystem,
        "CgroupLayout": host.cgroup_layout,
        "ConmonVersion": host.conmon_version,
        "RuntimeVersions": {one.name: one.version for one in host.runtimes if one.usable},
        "DataRoot": str(layout.own.data_root),
        "RunRoot": str(layout.own.run_root),
        "DockerSocket": f"unix://{layout.own.docker_socket}",
    }
    return go_value(info_view.info_json(facts) | own)


def _default(shown: dict[str, object], name: str, **absent: object) -> None:
    """Let a template ask for members that are left out."""
    member = shown[name]
    assert isinstance(member, dict)
    shown[name] = absent | member


# Members that are maps with keys of the user's: a missing key is nothing, where a missing field is an error.
_MAPS: Final = frozenset(
    {
        *("Annotations", "Attributes", "AuxiliaryAddresses", "Containers", "DriverOpts", "ExposedPorts", "Labels"),
        *("Networks", "Options", "PortBindings", "Ports", "Sysctls", "Tmpfs", "Volumes"),
    }
)
# Members that are null where they are not given, by what Go prints for that.
_NULL_LISTS: Final = frozenset(
    {
        *("Aliases", "Binds", "BlkioWeightDevice", "CapAdd", "CapDrop", "Cmd", "DNSNames", "DeviceCgroupRules"),
        *("DeviceRequests", "Entrypoint", "ExecIDs", "ExtraHosts", "GroupAdd", "Links", "MaskedPaths", "OnBuild"),
        *("ReadonlyPaths", "SecondaryIPAddresses", "SecondaryIPv6Addresses", "SecurityOpt", "VolumesFrom"),
    }
)
# Ports that are exposed and not published are null in a map of lists.
_MAPS_OF_LISTS: Final = frozenset({"Ports"})


def go_value(value: dict[str, object]) -> dict[str, object]:
    """Return an object of Docker's JSON for templates."""
    return {name: _member(name, item) for name, item in value.items()}


def _member(name: str, item: object) -> object:
    if item is None:
        return _null(name)
    if isinstance(item, list):
        return [go_value(each) if isinstance(each, dict) else each for each in item]
    if not isinstance(item, dict):
        return item
    if name in _MAPS_OF_LISTS:
        return GoMap({key: NIL_LIST if rows is None else rows for key, rows in item.items()})
    if name in _MAPS or (name == "Config" and all(isinstance(each, str) for each in item.values())):
        return GoMap({key: go_value(each) if isinstance(each, dict) else each for key, each in item.items()})
    return go_value(item)


def _null(name: str) -> object:
    if name in _MAPS:
        return NIL_MAP
    return NIL_LIST if name in _NULL_LISTS else NIL
