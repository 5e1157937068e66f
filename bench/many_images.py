"""What an engine with many small images takes for looking over all of them."""

import contextlib
import io
import json
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.engines import Engine
from bench.measure import Bench, Unmeasured
from tests.support.docker_client import UnixConnection
from tests.support.images import Entry, Image, Layer, directory, layer, tar

_LAYER_BYTES: Final = 10_000


@dataclass(frozen=True, slots=True)
class Stock:
    """Images in families, whose members have their lower layers in common; of each member, twins in all but a label."""

    name: str
    families: int
    members: int
    twins: int
    common_layers: int
    own_layers: int

    @property
    def images(self) -> int:
        """How many images there are."""
        return self.families * self.members * self.twins

    @property
    def layers(self) -> int:
        """How many different layers they have."""
        return self.families * (self.common_layers + self.members * self.own_layers)


STOCK: Final = Stock("many", families=10, members=5, twins=4, common_layers=4, own_layers=1)
GONE: Final = Stock("gone", families=10, members=20, twins=1, common_layers=2, own_layers=1)


def write_stock(stock: Stock, path: Path) -> None:
    """Write a docker-archive of all images, which every engine loads."""
    listed: list[dict[str, Any]] = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:

        def add(name: str, content: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))

        def add_layers(owner: str, count: int) -> dict[str, Layer]:
            return {f"{owner}-{number}": add_layer(f"{owner}-{number}") for number in range(count)}

        def add_layer(name: str) -> Layer:
            content = tar(directory(name), Entry(f"{name}/file", name.encode() * (_LAYER_BYTES // len(name))))
            add(f"{name}/layer.tar", content)
            return layer(content, "none")

        for family in range(stock.families):
            common = add_layers(f"{stock.name}-{family}", stock.common_layers)
            for member in range(stock.members):
                layers = common | add_layers(f"{stock.name}-{family}-{member}-own", stock.own_layers)
                for twin in range(stock.twins):
                    image = f"{stock.name}-{family}-{member}-{twin}"
                    config = Image(list(layers.values()), {"Cmd": ["true"], "Labels": {"twin": str(twin)}})
                    add(f"{image}.json", config.config_blob())
                    paths = [f"{name}/layer.tar" for name in layers]
                    listed.append({"Config": f"{image}.json", "RepoTags": [f"{image}:1"], "Layers": paths})
        add("manifest.json", json.dumps(listed).encode())


def have(engine: Engine, bench: Bench, stock: Stock) -> None:
    """Give the engine the images, which it keeps."""
    if (engine.name, stock.name) not in bench.given:
        path = bench.directory / f"{stock.name}.tar"
        if not path.exists():
            write_stock(stock, path)
        engine("load", "--input", str(path))
        bench.given.add((engine.name, stock.name))


def remove_each(engine: Engine, bench: Bench) -> float:
    """Remove many images, one by one."""
    have(engine, bench, GONE)
    bench.given.remove((engine.name, GONE.name))
    listed = engine("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    names = [name for name in listed if name.removeprefix("localhost/").startswith(f"{GONE.name}-")]
    if len(names) != GONE.images:
        raise RuntimeError(f"{engine.name} has {len(names)} of {GONE.images} images")
    begin = time.monotonic()
    for name in names:
        engine("rmi", name)
    return time.monotonic() - begin


def disk_usage(engine: Engine, bench: Bench) -> float:
    """Have the engine add up what its images take."""
    have(engine, bench, STOCK)
    begin = time.monotonic()
    shown = engine("system", "df")
    took = time.monotonic() - begin
    counts = [int(line.split()[1]) for line in shown.splitlines() if line.startswith("Images")]
    if not counts or counts[0] < STOCK.images:
        raise RuntimeError(f"{engine.name} does not see its {STOCK.images} images: {shown}")
    return took


def disk_usage_request(engine: Engine, bench: Bench) -> float:
    """The same without a client: one request of Docker's API, on a connection of its own."""
    socket = engine.api_socket
    if socket is None:
        raise Unmeasured
    have(engine, bench, STOCK)
    begin = time.monotonic()
    with contextlib.closing(UnixConnection(socket, timeout=60)) as connection:
        connection.request("GET", "/system/df")
        body = connection.getresponse().read()
    took = time.monotonic() - begin
    if len(json.loads(body).get("Images") or ()) < STOCK.images:
        raise RuntimeError(f"{engine.name} does not see its {STOCK.images} images: {body[:500]!r}")
    return took
