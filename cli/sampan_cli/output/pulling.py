"""Pull an image and show how it goes: bars on a terminal, lines otherwise."""

import contextlib
import os
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import IO, TYPE_CHECKING, Final, Protocol

from sampan.engine.progress import Done, LayerProgress, Phase, Progress, Resolved
from sampan.oci.reference import Reference, parse_reference
from sampan_cli.credentials.store import CredentialStore, config_path

if TYPE_CHECKING:
    from sampan_cli.backend import PullBackend

# What is said once per layer where there are no bars, in Docker's words.
_LINES: Final = {
    Phase.WAITING: "Pulling fs layer",
    Phase.DOWNLOADED: "Download complete",
    Phase.COMPLETE: "Pull complete",
    Phase.EXISTS: "Already exists",
    Phase.PREPARING: "Preparing",
    Phase.PUSHED: "Pushed",
    Phase.MOUNTED: "Mounted from {}",
    Phase.THERE: "Layer already exists",
}
_SHORT: Final = 12

Echo = Callable[[str], None]


class View(Protocol):
    """Where progress is shown."""

    def layer(self, name: str, event: LayerProgress) -> None:
        """Show a layer, a step further."""


class Lines:
    """One line per layer and step."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self._said: set[tuple[str, Phase]] = set()

    def layer(self, name: str, event: LayerProgress) -> None:
        """Say what is worth a line, once."""
        if event.phase is Phase.RETRYING:
            self._echo(f"{name}: Retrying in {event.current} second{'' if event.current == 1 else 's'}")
        elif event.phase in _LINES and (name, event.phase) not in self._said:
            self._said.add((name, event.phase))
            self._echo(f"{name}: {_LINES[event.phase].format(event.mounted_from)}")


async def pull(engine: "PullBackend", reference: str, *, platform: str, quiet: bool, stream: IO[str]) -> Reference:
    """Pull ``reference`` and return its whole name; progress goes to ``stream``.

    Raises:
        SampanError: see ``Engine.pull``; also a credential helper that fails.
    """
    parsed = parse_reference(reference).with_default_tag()
    credentials = await CredentialStore(config_path(os.environ)).for_image(reference)

    def echo(text: str) -> None:
        if not quiet:
            stream.write(f"{text}\n")
            stream.flush()

    events = engine.pull(reference, platform=platform, credentials=credentials)
    done = await watch(events, parsed, echo, stream if not quiet and stream.isatty() else None)
    if done is not None:
        echo(f"Digest: {done.digest}")
        status = "Image is up to date" if done.existed else "Downloaded newer image"
        echo(f"Status: {status} for {parsed.familiar}")
    return parsed


async def watch(
    events: AsyncGenerator[Progress, None], reference: Reference, echo: Echo, terminal: IO[str] | None
) -> Done | None:
    """Show events until the last one and return it."""
    done = None
    with contextlib.ExitStack() as stack:
        view = stack.enter_context(open_view(echo, terminal))
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, Resolved):
                    echo(f"{reference.tag or reference.digest}: Pulling from {reference.repository}")
                elif isinstance(event, LayerProgress):
                    view.layer(event.digest.partition(":")[2][:_SHORT], event)
                elif isinstance(event, Done):
                    done = event
    return done


@contextlib.contextmanager
def open_view(echo: Echo, terminal: IO[str] | None) -> Iterator[View]:
    """Yield bars if there is a terminal, lines otherwise."""
    if terminal is None:
        yield Lines(echo)
        return
    from sampan_cli.output.bars import Bars  # rich takes as long to import as everything else here

    with Bars(terminal) as bars:
        yield bars
