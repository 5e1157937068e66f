"""What an engine says that it has on disk, and archives of small images to fill it with."""

import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

from tests.support.engine import Engine
from tests.support.images import Image


def explained(engine: Engine) -> list[dict[str, Any]]:
    """Return everything that is stored, with who holds it."""
    said = engine.sampan("system", "df", "--explain", "--format", "json")
    return [json.loads(line) for line in said.lines]


def archive_of(images: Mapping[str, Image]) -> bytes:
    """Return a docker-archive of images, by their names."""
    files: dict[str, bytes] = {}
    items = []
    for name, image in images.items():
        layers = []
        for layer in image.layers:
            assert isinstance(layer.blob, bytes)
            files[path := f"{layer.diff_id[7:]}.tar"] = layer.blob
            layers.append(path)
        files[config := f"{image.id[7:]}.json"] = image.config_blob()
        items.append({"Config": config, "RepoTags": [name], "Layers": layers})
    files["manifest.json"] = json.dumps(items).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()
