import json
import tarfile
from pathlib import Path

from bench.many_images import Stock, write_stock


def test_an_archive_has_as_many_images_and_layers_as_its_stock_says(tmp_path: Path) -> None:
    stock = Stock("few", families=2, members=3, twins=2, common_layers=2, own_layers=1)
    path = tmp_path / "few.tar"

    write_stock(stock, path)

    with tarfile.open(path) as archive:
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        listed = json.load(manifest)
        names = archive.getnames()
    assert stock.images == len(listed) == len({one["Config"] for one in listed}) == 12
    assert stock.layers == len({layer for one in listed for layer in one["Layers"]}) == 10
    assert {layer for one in listed for layer in one["Layers"]} < set(names)
