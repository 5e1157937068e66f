"""A build on a terminal: what runs now below what is done, redrawn as it goes, with rich."""

from collections.abc import Iterable, Sequence
from typing import IO, Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sampan.build.progress import Update, Vertex, VertexLog, VertexStatus
from sampan_cli.output.build_steps import Step, Steps, seconds, warnings

_REDRAWS_PER_S: Final = 10
_TAIL: Final = 6  # lines of output below a step that runs


class Screen:
    """One line per step; a step that runs has the last lines of its output below it."""

    def __init__(self, terminal: IO[str]) -> None:
        self._console = Console(file=terminal, force_terminal=True)
        self._steps = Steps()
        self._over = False
        self._live = Live(
            console=self._console,
            get_renderable=self._draw,
            refresh_per_second=_REDRAWS_PER_S,
            vertical_overflow="ellipsis",
        )
        self._live.start()

    def update(self, updates: Sequence[Update]) -> None:
        """Take what has changed; it is drawn with the next redraw."""
        for update in updates:
            if isinstance(update, Vertex):
                self._steps.take(update)
            elif isinstance(update, VertexLog):
                step = self._steps.get(update.vertex)
                if step is not None:
                    step.printed(update)
            elif isinstance(update, VertexStatus):
                step = self._steps.get(update.vertex)
                if step is not None:
                    step.statuses[update.id] = update
            else:
                self._steps.warnings.append(update)

    def close(self) -> None:
        """Leave the last state on the terminal, and below it what went wrong."""
        self._over = True
        self._live.stop()
        failed = self._steps.failed()
        if failed is not None and failed.lines:
            rule = "-" * 6
            lines = [rule, f" > {failed.vertex.name}:", *failed.lines, rule]
            self._console.print(Text("\n".join(lines)))
        for line in warnings(self._steps.warnings):
            self._console.print(Text(line))

    def _draw(self) -> Text:
        steps = list(self._steps)
        done = sum(bool(step.vertex.completed_ns) for step in steps)
        begun_ns = min((step.vertex.started_ns for step in steps if step.vertex.started_ns), default=0)
        ended_ns = max((step.vertex.completed_ns for step in steps), default=0) if self._over else 0
        took_s = seconds(Vertex(steps[0].vertex.digest, "", (), begun_ns, ended_ns)) if steps else 0.0
        state = " FINISHED" if self._over else ""
        lines = [Text(f"[+] Building {took_s:.1f}s ({done}/{len(steps)}){state}", "bold")]
        for step in steps:
            lines += self._step(step)
        return Text("\n").join(lines)

    def _step(self, step: Step) -> Iterable[Text]:
        vertex = step.vertex
        runs = not vertex.completed_ns and not vertex.error
        style = "red" if vertex.error else ("" if runs else "blue")
        mark = "ERROR" if vertex.error else ("CACHED" if vertex.cached else "=>")
        took = f"{seconds(vertex):.1f}s"
        room = max(10, self._console.width - len(mark) - len(took) - 4)
        name = vertex.name if len(vertex.name) <= room else vertex.name[: room - 1] + "…"
        yield Text(f" {mark} {name}{' ' * (room - len(name))} {took}", style)
        if runs:
            for line in step.lines[-_TAIL:]:
                yield Text(f" =>   {line}"[: self._console.width], "dim")
