"""Progress bars for layers, drawn with rich."""

from types import TracebackType
from typing import IO, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from sampan.docker.sizes import human_size
from sampan.engine.progress import LayerProgress, Phase

_WORDS: Final = {
    Phase.WAITING: "Waiting",
    Phase.DOWNLOADING: "Downloading",
    Phase.RETRYING: "Retrying",
    Phase.VERIFYING: "Verifying",
    Phase.DOWNLOADED: "Downloaded",
    Phase.EXTRACTING: "Unpacking",
    Phase.COMPLETE: "Pull complete",
    Phase.EXISTS: "Already exists",
    Phase.PREPARING: "Preparing",
    Phase.PUSHING: "Pushing",
    Phase.PUSHED: "Pushed",
    Phase.MOUNTED: "Mounted",
    Phase.THERE: "Already there",
}


class Bars:
    """One bar per layer; a context manager, which leaves the last state of the bars on the terminal."""

    def __init__(self, terminal: IO[str]) -> None:
        self._progress = Progress(
            TextColumn("{task.description}:"),
            TextColumn("{task.fields[phase]:<14}"),
            BarColumn(bar_width=40),
            TextColumn("{task.fields[detail]}"),
            console=Console(file=terminal),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def layer(self, name: str, event: LayerProgress) -> None:
        """Move a layer's bar."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, phase="", detail="", total=None)
        detail, total, completed = "", float(event.total or 1), float(event.current)
        if event.phase in (Phase.DOWNLOADING, Phase.EXTRACTING, Phase.PUSHING):
            detail = f"{human_size(event.current, 3)}/{human_size(event.total, 3)}"
        elif event.phase is Phase.RETRYING:
            detail, completed = f"in {event.current} second{'' if event.current == 1 else 's'}", 0.0
        elif event.phase is Phase.MOUNTED:
            detail, total, completed = f"from {event.mounted_from}", 1.0, 1.0
        elif event.phase not in (Phase.WAITING, Phase.PREPARING):
            total = completed = 1.0
        self._progress.update(
            self._tasks[name], phase=_WORDS[event.phase], detail=detail, total=total, completed=completed
        )
