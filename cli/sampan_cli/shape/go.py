"""Docker's JSON as Go's templates see it: maps apart from structures, and nulls that know what they are none of."""

from typing import Final

from sampan_cli.template.functions import NIL, NIL_LIST, NIL_MAP, GoMap

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
