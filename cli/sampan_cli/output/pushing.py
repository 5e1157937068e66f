"""Push an image and show how it goes: bars on a terminal, lines otherwise."""

import contextlib
import os
from typing import IO, TYPE_CHECKING, Final

from sampan.engine.progress import LayerProgress, Phase
from sampan.oci.reference import Reference
from sampan.resource.transfer import Pushed, PushPhase, PushResolved, PushStep
from sampan_cli.credentials.store import CredentialStore, config_path
from sampan_cli.output.pulling import open_view

if TYPE_CHECKING:
    from sampan_cli.backend import PushBackend

_PHASES: Final = {
    PushPhase.WAITING: Phase.WAITING,
    PushPhase.PREPARING: Phase.PREPARING,
    PushPhase.PUSHING: Phase.PUSHING,
    PushPhase.PUSHED: Phase.PUSHED,
    PushPhase.EXISTED: Phase.THERE,
    PushPhase.MOUNTED: Phase.MOUNTED,
    PushPhase.RETRYING: Phase.RETRYING,
}


async def push(engine: "PushBackend", reference: Reference, *, platform: str, quiet: bool, stream: IO[str]) -> None:
    """Push ``reference``, which has a tag; progress goes to ``stream``. Layers are called by their diff IDs.

    That a manifest went in the place of an index is said last, in Docker's words.

    Raises:
        SampanError: see ``Engine.push``; also a credential helper that fails.
    """
    credentials = await CredentialStore(config_path(os.environ)).for_image(str(reference))

    def echo(text: str) -> None:
        if not quiet:
            stream.write(f"{text}\n")
            stream.flush()

    terminal = stream if not quiet and stream.isatty() else None
    names: dict[str, str] = {}
    pushed: Pushed | None = None
    async with contextlib.aclosing(engine.push(str(reference), platform=platform, credentials=credentials)) as steps:
        with open_view(echo, terminal) as view:
            async for step in steps:
                if isinstance(step, PushResolved):
                    names = {each.descriptor.digest: each.diff_id for each in step.layers}
                elif isinstance(step, Pushed):
                    pushed = step
                elif isinstance(step, PushStep) and (diff_id := names.get(step.digest)) is not None:
                    phase = _PHASES[step.phase]
                    event = LayerProgress(step.digest, phase, step.offset, step.total, step.mounted_from)
                    view.layer(diff_id.partition(":")[2][:12], event)
    if pushed is None:
        return
    echo(f"{pushed.tag}: digest: {pushed.manifest.digest} size: {pushed.manifest.size}")
    if pushed.instead_of is not None:
        echo(
            "\nNot all multiplatform-content is present and only the available single-platform image was pushed\n"
            f"{pushed.instead_of.digest} -> {pushed.manifest.digest}"
        )
