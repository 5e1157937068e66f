"""Which commands there are and where they live. The one-line helps are here so that ``sampan --help`` imports none."""

from typing import Final

from sampan_cli.lazy import Entry

_ENGINE: Final = {
    "up": Entry("up", "Start the engine"),
    "down": Entry("down", "Stop the engine; containers keep running"),
    "status": Entry("status", "Show the engine's services and whether they are healthy"),
}

CONTAINER: Final = {
    "run": Entry("run", "Create and run a new container from an image"),
    "create": Entry("create", "Create a new container"),
}

ROOT: Final = {
    **CONTAINER,
    **_ENGINE,
}
