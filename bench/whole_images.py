"""What is done with a whole image: push, save, load, removal, commit. Each looks whether it was done."""

import contextlib
import subprocess
from collections.abc import Iterator
from urllib.parse import quote

from bench import change
from bench.engines import Engine
from bench.measure import Bench, seconds, settled_seconds
from tests.support.images import DOCKER_MANIFEST, OCI_MANIFEST
from tests.support.registry import Registry

# The least that leaves the disk with an image of Debian, in whatever form an engine keeps it.
_IMAGE_BYTES = 90_000_000


def push(engine: Engine, bench: Bench) -> float:
    """Push to a registry that has nothing of the image, and of which no engine knows a repository that has."""
    target = bench.targets[engine.name]
    repository = f"{engine.name}/round-{bench.round}"
    name = f"{target.address}/{repository}:new"
    engine.pull(bench.fresh)
    engine("tag", bench.fresh, name)
    took = settled_seconds(engine, *engine.over_http("push", name))
    engine("rmi", "--force", name, bench.fresh)
    _check_uploads(target, repository)
    return took


def _check_uploads(target: Registry, repository: str) -> None:
    """Raise unless every blob of the manifest was uploaded to its repository."""
    base = f"{target.url}/v2/{repository}"
    begin = f'"PUT /v2/{repository}/blobs/uploads/'
    uploads = [line for line in target.log.read_text().splitlines() if begin in line and '" 201 ' in line]
    with target.session() as session:
        accepted = {"Accept": f"{DOCKER_MANIFEST}, {OCI_MANIFEST}"}
        found = session.get(f"{base}/manifests/new", headers=accepted, timeout=60)
        found.raise_for_status()
        for blob in (found.json()["config"], *found.json()["layers"]):
            held = session.head(f"{base}/blobs/{blob['digest']}", timeout=60)
            if held.status_code != 200 or int(held.headers["Content-Length"]) != blob["size"]:
                raise RuntimeError(f"{repository}: the registry does not have {blob['digest']}")
            if not any(quote(blob["digest"]) in line for line in uploads):
                raise RuntimeError(f"{repository}: {blob['digest']} was not uploaded")


def save(engine: Engine, bench: Bench) -> float:
    """Save to a file, from which the image comes back as it was."""
    image = bench.debian(engine)
    path = bench.directory / f"saved-by-{engine.name}.tar"
    took = settled_seconds(engine, "save", "--output", str(path), image)
    before = _id(engine, image)
    engine("rmi", "--force", image)
    engine("load", "--input", str(path))
    path.unlink()
    if _id(engine, image) != before:
        raise RuntimeError(f"{engine.name}: {image} has come back as another image")
    return took


def load(engine: Engine, bench: Bench) -> float:
    """Load from a docker-archive an image of which the engine has no layer."""
    path = bench.archive()
    if _id(engine, bench.fresh):
        raise RuntimeError(f"{engine.name} has {bench.fresh} already")
    took = settled_seconds(engine, "load", "--input", str(path))
    engine("run", "--rm", "--network=none", bench.fresh, "bash", "-c", "true")
    engine("rmi", bench.fresh)
    return took


def remove(engine: Engine, bench: Bench) -> float:
    """Remove an image of which nothing else has a layer; its space is free as soon as the command ends."""
    engine.pull(bench.fresh)
    before = _bytes_on_disk(engine)
    took = settled_seconds(engine, "rmi", bench.fresh)
    after = _bytes_on_disk(engine)
    if _id(engine, bench.fresh) or before - after < _IMAGE_BYTES:
        raise RuntimeError(f"{engine.name}: of {before:,} bytes {after:,} are left")
    return took


def commit(engine: Engine, bench: Bench) -> float:
    """Make an image of what a container has written."""
    with _written(engine, bench) as (container, image):
        return settled_seconds(engine, "commit", container, image)


def commit_and_run(engine: Engine, bench: Bench) -> float:
    """The same, until a container of the image has run: nothing is left for later."""
    with _written(engine, bench) as (container, image):
        committing = settled_seconds(engine, "commit", container, image)
        return committing + seconds(engine, "run", "--rm", "--network=none", image, "true")


@contextlib.contextmanager
def _written(engine: Engine, bench: Bench) -> Iterator[tuple[str, str]]:
    """Make a container that has written the change, and yield it with the name of the image to make; check that."""
    container, image = f"commit-{bench.round}", f"committed:{bench.round}"
    tree, digest = bench.change()
    base = bench.debian(engine)
    command = engine.command(
        "run", "--interactive", "--name", container, "--network=none", base, "tar", "-xf", "-", "-C", "/"
    )
    try:
        with tree.open("rb") as archive:
            subprocess.run(command, env=engine.env(), stdin=archive, check=True, capture_output=True)
        yield container, image
        read = f"find /{change.ROOT} -type f | LC_ALL=C sort | xargs cat | sha256sum"
        found = engine("run", "--rm", "--network=none", image, "sh", "-c", read).split()[0]
        if found != digest:
            raise RuntimeError(f"{engine.name}: the image has {found} and not {digest}")
    finally:
        engine.remove(container, check=False)
        engine("rmi", "--force", image, check=False)


def _id(engine: Engine, image: str) -> str:
    """Return the image's ID, or nothing."""
    return engine("images", "--quiet", "--no-trunc", image)


def _bytes_on_disk(engine: Engine) -> int:
    du = ["du", "--summarize", "--block-size=1", "--one-file-system", str(engine.root)]
    return int(subprocess.run(du, check=True, capture_output=True, text=True).stdout.split()[0])
