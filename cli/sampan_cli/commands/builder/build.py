"""``sampan build``: an image from a Dockerfile."""

import os
import sys
from typing import TYPE_CHECKING

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import Session
from sampan_cli.options.flags import from_flags

if TYPE_CHECKING:
    from sampan_cli.backend import BuilderBackend


@sampan_command(
    "build",
    examples="""
    sampan build -t app .
    sampan build -t app --build-arg VERSION=2 --target test -f docker/Dockerfile .
    sampan build --secret id=token,env=TOKEN --ssh default -t app .
    sampan build --output type=local,dest=out .
    sampan build --check .
    """,
)
@click.argument("context")
@click.option("--add-host", multiple=True, metavar="HOST:IP", help="Add a custom host-to-IP mapping.")
@click.option("--allow", multiple=True, help="Allow what needs it: network.host, security.insecure.")
@click.option("--annotation", multiple=True, metavar="KEY=VALUE", help="Add an annotation to the image.")
@click.option("--attest", multiple=True, metavar="type=TYPE,…", help="Attestation parameters.")
@click.option("--build-arg", multiple=True, metavar="NAME[=VALUE]", help="Set build-time variables.")
@click.option("--build-context", multiple=True, metavar="NAME=SOURCE", help="Additional build contexts.")
@click.option("--cache-from", multiple=True, metavar="IMAGE|type=TYPE,…", help="External cache sources.")
@click.option("--cache-to", multiple=True, metavar="type=TYPE,…", help="Cache export destinations.")
@click.option("--call", default="build", metavar="METHOD", help="What to do: build, check, outline or targets.")
@click.option("--cgroup-parent", default="", help="Parent cgroup for the RUN instructions.")
@click.option("--check", is_flag=True, help="Shorthand for --call=check.")
@click.option("--cpu-period", type=int, default=0, metavar="US", help="CFS period of the RUN instructions.")
@click.option("--cpu-quota", type=int, default=0, metavar="US", help="CFS quota of the RUN instructions.")
@click.option("--cpu-shares", "-c", type=int, default=0, help="CPU shares of the RUN instructions.")
@click.option("--cpuset-cpus", default="", help="CPUs that the RUN instructions may use, such as 0-3.")
@click.option("--cpuset-mems", default="", help="Memory nodes that the RUN instructions may use.")
@click.option("--file", "-f", default="", help="Name of the Dockerfile; - reads it from stdin.")
@click.option("--iidfile", default="", metavar="FILE", help="Write the image ID to a file.")
@click.option("--label", multiple=True, metavar="KEY=VALUE", help="Set metadata for an image.")
@click.option("--load", is_flag=True, help="Shorthand for --output=type=docker.")
@click.option("--memory", "-m", default="", metavar="BYTES", help="Memory limit of each RUN instruction.")
@click.option("--memory-swap", default="", metavar="BYTES", help="Memory and swap together; -1 for unlimited swap.")
@click.option("--metadata-file", default="", metavar="FILE", help="Write build result metadata to a file.")
@click.option("--network", default="default", help="Network of the RUN instructions: default, none or host.")
@click.option("--no-cache", is_flag=True, help="Do not use cache when building the image.")
@click.option("--no-cache-filter", multiple=True, metavar="STAGE", help="Do not cache these stages.")
@click.option("--output", "-o", multiple=True, metavar="DEST|type=TYPE,…", help="Output destination.")
@click.option("--platform", multiple=True, help="Platform of the image, such as linux/arm64.")
@click.option(
    "--progress",
    type=click.Choice(("auto", "tty", "plain", "rawjson", "quiet")),
    default="auto",
    help="How to show progress.",
)
@click.option("--provenance", help="Shorthand for --attest=type=provenance.")
@click.option("--pull", is_flag=True, help="Always attempt to pull all referenced images.")
@click.option("--push", is_flag=True, help="Push the image to its registry.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but the image ID.")
@click.option("--sbom", help="Shorthand for --attest=type=sbom.")
@click.option("--secret", multiple=True, metavar="id=ID[,src=FILE|,env=NAME]", help="Secret to expose to the build.")
@click.option("--shm-size", default="", metavar="BYTES", help="Size of /dev/shm of the RUN instructions.")
@click.option("--ssh", multiple=True, metavar="default|ID=SOCKET", help="SSH agent to expose to the build.")
@click.option("--tag", "-t", multiple=True, metavar="NAME[:TAG]", help="Name and optionally a tag.")
@click.option("--target", default="", help="Set the target build stage to build.")
@click.option("--ulimit", multiple=True, metavar="NAME=SOFT[:HARD]", help="Ulimit options of the RUN instructions.")
@click.pass_obj
def command(session: Session, /, **flags: object) -> None:
    """Build an image from a Dockerfile.

    CONTEXT is a directory, the URL of an archive or a repository, or - for an archive or a Dockerfile on stdin.
    """

    async def work(engine: "BuilderBackend") -> int:
        from sampan.errors import SampanError
        from sampan_cli.commands.builder.solving import run_build, show_blame
        from sampan_cli.options.build import BuildOptions

        try:
            return await run_build(engine.builds, from_flags(BuildOptions, flags), os.environ, sys.stderr)
        except SampanError as error:
            show_blame(error)
            raise

    session.run(work)
