"""``sampan system df``: disk use."""

from typing import TYPE_CHECKING, Any, Final

import click

from sampan_cli.flags import format_option
from sampan_cli.lazy import sampan_command
from sampan_cli.session import Session

if TYPE_CHECKING:
    from sampan.engine.engine import Engine

_HEADERS: Final = {
    "Type": "TYPE",
    "TotalCount": "TOTAL",
    "Active": "ACTIVE",
    "Size": "SIZE",
    "Reclaimable": "RECLAIMABLE",
}
_TABLE: Final = "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}"


@sampan_command("df", examples="sampan system df")
@format_option
@click.pass_obj
def command(session: Session, /, template: str) -> None:
    """Show disk usage of images, containers and volumes. A layer that several images share counts once."""
    session.run(lambda engine: show_usage(engine, template))


async def show_usage(engine: "Engine", template: str) -> None:
    """Print one line per kind of object."""
    from sampan.api.image.v1 import images_pb2
    from sampan.api.runtime.v1 import containers_pb2 as pb
    from sampan.api.runtime.v1 import volumes_pb2
    from sampan.wire.channel import rpc_errors
    from sampan_cli.image_sizes import image_sizes
    from sampan_cli.output.table import print_list

    with rpc_errors():
        images = (await engine.images.List(images_pb2.ListRequest())).images
        listed = await engine.containers.List(pb.ListContainersRequest(all=True, size=True))
        volumes = (await engine.volumes.List(volumes_pb2.ListVolumesRequest(size=True))).volumes
    sizes = await image_sizes(engine)
    containers = listed.containers
    used = {container.spec.image_id for container in containers}
    layers = {layer.diff_id for image in images for layer in image.layers}
    needed = {layer.diff_id for image in images if image.id in used for layer in image.layers}
    alive = (pb.ContainerState.RUNNING, pb.ContainerState.PAUSED, pb.ContainerState.RESTARTING)
    running = [container for container in containers if container.state.status in alive]
    written = sum(container.size_rw_bytes for container in containers)
    rows = [
        _row(
            "Images",
            (len(images), sum(image.id in used for image in images)),
            sum(sizes.layer(diff_id) for diff_id in layers),
            sum(sizes.layer(diff_id) for diff_id in layers - needed),
        ),
        _row(
            "Containers",
            (len(containers), len(running)),
            written,
            written - sum(container.size_rw_bytes for container in running),
        ),
        _row(
            "Local Volumes",
            (len(volumes), sum(bool(volume.used_by) for volume in volumes)),
            sum(volume.size_bytes for volume in volumes),
            sum(volume.size_bytes for volume in volumes if not volume.used_by),
        ),
    ]
    print_list(rows, template, _HEADERS, _TABLE, click.echo)


def _row(kind: str, counts: tuple[int, int], size_bytes: int, reclaimable_bytes: int) -> dict[str, Any]:
    from sampan_cli.output.units import human_size

    share = f" ({100 * reclaimable_bytes // size_bytes}%)" if size_bytes else ""
    return {
        "Type": kind,
        "TotalCount": str(counts[0]),
        "Active": str(counts[1]),
        "Size": human_size(size_bytes),
        "Reclaimable": f"{human_size(reclaimable_bytes)}{share}",
    }
