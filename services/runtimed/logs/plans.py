"""What is to be done with a container's output, as its spec says."""

import socket
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from runtimed.containers.paths import ContainerPaths
from runtimed.logs.drivers.driver import Shipping
from runtimed.logs.formats import Format, JsonLines, RecordLines
from runtimed.logs.sinks import FilePlan
from sampan.docker.options.logs import (
    CRI,
    DEFAULT_DRIVER,
    SENDING,
    attributes_of,
    buffer_bytes,
    caches,
    kept_files,
    tag_of,
)
from sampan.resource.container import Container


def is_kept(container: Container) -> bool:
    """Whether the engine writes the container's output down, or sends it."""
    return container.spec.log.driver not in ("none", CRI)


def is_readable(container: Container) -> bool:
    """Whether there is a log to be read."""
    log = container.spec.log
    return log.driver == CRI or (is_kept(container) and not (log.driver in SENDING and not caches(log.options)))


def log_files(container: Container, paths: ContainerPaths) -> tuple[Path, Format]:
    """Return the newest of the files in which the container's log is kept, and their form."""
    match container.spec.log.driver or DEFAULT_DRIVER:
        case "json-file":
            return paths.json_log, JsonLines()
        case "cri":
            return Path(container.spec.log.options["path"]), RecordLines()
        case "local":
            return paths.local_log, RecordLines()
        case _:
            return paths.cached_log, RecordLines()


def log_path(container: Container, paths: ContainerPaths) -> str:
    """Return what Docker shows as its path: files of no other driver are for others to read."""
    log = container.spec.log
    if log.driver == CRI:
        return log.options["path"]
    return str(paths.json_log) if (log.driver or DEFAULT_DRIVER) == "json-file" else ""


def plan_of(container: Container, paths: ContainerPaths) -> dict[str, object]:
    """Return what the writer is told of the container."""
    options = container.spec.log.options
    return {
        "spool": str(paths.spool),
        "conmon": str(paths.conmon_pid),
        "blocking": options.get("mode", "blocking") == "blocking",
        "file": asdict(_file_plan(container, paths)) if is_readable(container) else None,
        "ship": asdict(_shipping(container)) if container.spec.log.driver in SENDING else None,
    }


def _file_plan(container: Container, paths: ContainerPaths) -> FilePlan:
    path, form = log_files(container, paths)
    kept = kept_files(container.spec.log)
    json = isinstance(form, JsonLines)
    attributes: Mapping[str, str] | None = None
    if json:
        attributes = attributes_of(container)
        if container.spec.log.options.get("tag"):
            attributes["tag"] = tag_of(container)
    return FilePlan(str(path), json, kept.size_bytes, kept.files, kept.compress, attributes)


def _shipping(container: Container) -> Shipping:
    spec = container.spec
    return Shipping(
        driver=spec.log.driver,
        options=dict(spec.log.options),
        tag=tag_of(container),
        attributes=attributes_of(container),
        container={
            "id": container.id,
            "name": container.name,
            "image_id": spec.image_id,
            "image_name": spec.image,
            "command": " ".join(spec.process.args),
            "created": container.created.isoformat(),
        },
        hostname=socket.gethostname(),
        buffer_bytes=buffer_bytes(spec.log.options),
    )
