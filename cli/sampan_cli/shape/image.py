"""An image as ``sampan image inspect`` prints it: as Docker's API 1.50 does, with Go's nulls for templates."""

from sampan.docker.image_view import inspect_json
from sampan.resource.image import ImageDetails
from sampan_cli.shape.go import go_value
from sampan_cli.template.functions import ABSENT, ABSENT_LIST, ABSENT_MAP, ABSENT_TEXT, NIL_LIST, NIL_MAP, Nil

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
    view = inspect_json(image, size_bytes, driver)
    config = go_value(view["Config"])
    nulls = {name: null for name, null in _NULL.items() if view["Config"][name] is None}
    shown = go_value(view) | {
        "Config": _ABSENT | config | nulls,
        "GraphDriver": {"Data": NIL_MAP, "Name": driver},
    }
    return {"Variant": ABSENT_TEXT, "OsVersion": ABSENT_TEXT} | shown
