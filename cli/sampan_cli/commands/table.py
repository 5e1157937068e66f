"""Which commands there are and where they live. The one-line helps are here so that ``sampan --help`` imports none."""

from typing import Final

from sampan_cli.lazy import Entry

ENGINE: Final = {
    "up": Entry("up", "Start the engine"),
    "down": Entry("down", "Stop the engine; containers keep running"),
    "status": Entry("status", "Show the engine's services and whether they are healthy"),
}

ROOT: Final = {
    **ENGINE,
}
