"""Push an image and show how it goes: bars on a terminal, lines otherwise."""

import contextlib
import os
from typing import IO, Final

from sampan.api.image.v1 import images_pb2 as pb
from sampan.engine.engine import Engine
from sampan.engine.progress import LayerProgress, Phase
from sampan.oci.reference import Reference
from sampan_cli.credentials.store import CredentialStore, config_path
from sampan_cli.output.pulling import open_view

_PHASES: Final = {
    pb.PushProgress.WAITING: Phase.WAITING,
    pb.PushProgress.PREPARING: Phase.PREPARING,
    pb.PushProgress.PUSHING: Phase.PUSHING,
    pb.PushProgress.PUSHED: Phase.PUSHED,
    pb.PushProgress.EXISTED: Phase.THERE,
    pb.PushProgress.MOUNTED: Phase.MOUNTED,
    pb.PushProgress.RETRYING: Phase.RETRYING,
}


async def push(engine: Engine, reference: Reference, *, platform: str, quiet: bool, stream: IO[str]) -> None:
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
    pushed = pb.PushProgress.Pushed()
    async with contextlib.aclosing(engine.push(str(reference), platform=platform, credentials=credentials)) as steps:
        with open_view(echo, terminal) as view:
            async for step in steps:
                if step.HasField("resolved"):
                    names = {each.descriptor.digest: each.diff_id for each in step.resolved.layers}
                elif step.HasField("pushed"):
                    pushed = step.pushed
                elif (diff_id := names.get(step.layer.digest)) is not None:
                    layer = step.layer
                    phase = _PHASES[layer.phase]
                    event = LayerProgress(layer.digest, phase, layer.offset, layer.total, layer.mounted_from)
                    view.layer(diff_id.partition(":")[2][:12], event)
    echo(f"{pushed.tag}: digest: {pushed.manifest.digest} size: {pushed.manifest.size}")
    if pushed.HasField("instead_of"):
        echo(
            "\nNot all multiplatform-content is present and only the available single-platform image was pushed\n"
            f"{pushed.instead_of.digest} -> {pushed.manifest.digest}"
        )
