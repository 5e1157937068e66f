"""An image from another one, a layer on top of it, and what has changed in its config."""

import time
from collections.abc import Callable
from dataclasses import replace

from imaged.content import store as rows
from imaged.content.blobs import ContentStore
from imaged.content.leases import Leases
from imaged.images.names import Images
from sampan.dockerfile.changes import apply_changes
from sampan.errors import NotFoundError
from sampan.oci.config_document import check_sizes, render_config
from sampan.oci.descriptor import OCI_CONFIG, OCI_MANIFEST
from sampan.oci.image_config import History
from sampan.oci.manifest_document import render_manifest
from sampan.resource.image import ImageCommit, Imported, Layer
from sampan.store.database import Store


class Committer:
    """Makes images of containers' changes."""

    def __init__(
        self,
        images: Images,
        store: Store,
        content: ContentStore,
        leases: Leases,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._images = images
        self._store = store
        self._content = content
        self._leases = leases
        self._now_ns = now_ns

    async def run(self, base: str, layer: Layer | None, options: ImageCommit) -> Imported:
        """Return a new image that its lease holds. Without a layer only the config is new.

        ``layer`` is in the content store; from now on it is kept for as long as an image or the lease needs it.

        Raises:
            InvalidArgumentError: a bad change.
            NotFoundError: the base, or the layer, is not here.
        """
        run = apply_changes(options.config, options.changes)
        if not run.entrypoint and not run.cmd:
            # As with dockerd: taking the entrypoint away leaves the container's command.
            run = replace(run, cmd=options.config.cmd)
        check_sizes(run, "the new image")
        image = await self._images.get(base)
        layers = (*image.record.layers, *((layer,) if layer else ()))
        now_ns = self._now_ns()
        step = History(now_ns, options.created_by, options.author, options.message, empty_layer=layer is None)
        config = replace(
            image.config,
            diff_ids=tuple(each.diff_id for each in layers),
            created_ns=now_ns,
            run=run,
            history=(*image.config.history, step),
            author=options.author or image.config.author,
            comment=options.message,
        )
        async with self._leases.held() as lease:
            digests = [each.descriptor.digest for each in layers]
            here = await self._leases.hold(lease, digests)
            for each in layers:
                if each.descriptor.digest not in here and each.diff_id not in image.record.deferred:
                    raise NotFoundError(f"content {each.descriptor.digest}: not found")
            if layer is not None:
                # It was kept for its own sake until now.
                await self._store.write(lambda db: rows.end_hold(db, layer.descriptor.digest))
            await self._leases.expect(lease, [each.diff_id for each in layers])
            described = await self._content.put(render_config(config), OCI_CONFIG, lease)
            target = await self._content.put(
                render_manifest(described, [layer.descriptor for layer in layers]), OCI_MANIFEST, lease
            )
        return Imported(lease, described.digest, target, layers)
