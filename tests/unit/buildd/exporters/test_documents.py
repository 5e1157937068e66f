"""Configs, histories and annotations of images."""

import base64
import json
from typing import Any

import pytest

from buildd.exporters.attributes import parse_attributes
from buildd.exporters.config import Times, finish_config
from buildd.protocol import Tree
from sampan.errors import SampanError
from sampan.oci.platform import Platform
from tests.fakes.build_stores import layer
from tests.unit.buildd.exporters.exporting import AMD, CONFIG, NOW


def test_an_annotation_may_be_for_one_platform() -> None:
    said = parse_attributes("image", {"annotation[linux/amd64].a": "1", "annotation-manifest.b": "2"})
    assert said.annotations_on("manifest", AMD) == {"a": "1", "b": "2"}
    assert said.annotations_on("manifest", Platform("linux", "s390x")) == {"b": "2"}


def lines(tree: Tree, history: list[dict[str, Any]]) -> list[tuple[Any, Any]]:
    made = json.loads(finish_config(json.dumps({**CONFIG, "history": history}).encode(), tree, AMD, Times(NOW)))
    return [(line.get("created_by", line.get("comment")), bool(line.get("empty_layer"))) for line in made["history"]]


def test_a_step_that_changed_nothing_has_a_line_and_no_layer() -> None:
    steps = [{"created_by": name} for name in "abcd"]
    tree = Tree((layer("a"), layer("c")), unchanged=(1, 2))
    assert lines(tree, steps) == [("a", False), ("b", True), ("c", False), ("d", True)]
    assert lines(Tree((), unchanged=(0,)), steps[:1]) == [("a", True)]


def test_history_always_counts_the_layers() -> None:
    two = Tree((layer("a"), layer("b")))
    assert lines(two, []) == [("buildkit.exporter.image.v0", False)] * 2
    assert lines(two, [{"created_by": name} for name in "abc"]) == [("a", False), ("b", False), ("c", True)]


def test_a_graph_without_a_config_gets_one() -> None:
    made = json.loads(finish_config(b"", Tree((layer("a"),)), AMD, Times(NOW)))
    assert (made["architecture"], made["os"], made["created"]) == ("amd64", "linux", "2023-11-14T22:13:20.123456789Z")
    with pytest.raises(SampanError):
        finish_config(b"[]", Tree(), AMD, Times(NOW))


def test_an_inline_cache_replaces_the_base_images() -> None:
    said = json.dumps({**CONFIG, "moby.buildkit.cache.v0": "old"}).encode()
    assert "moby.buildkit.cache.v0" not in json.loads(finish_config(said, Tree(), AMD, Times(NOW)))
    made = json.loads(finish_config(said, Tree(), AMD, Times(NOW), b"new"))
    assert base64.b64decode(made["moby.buildkit.cache.v0"]) == b"new"


def test_a_line_has_the_time_of_its_layer_and_the_image_that_of_the_last() -> None:
    base, first, second = map(layer, "abc")
    steps = [
        {"created_by": "FROM", "created": "2020-01-01T00:00:00Z"},
        {"created_by": "ENV", "empty_layer": True},
        {"created_by": "RUN"},
        {"created_by": "CMD", "empty_layer": True},
        {"created_by": "COPY"},
    ]
    said = json.dumps({**CONFIG, "history": steps}).encode()
    times = Times(NOW, {first.diff_id: 10**9, second.diff_id: 2 * 10**9})
    made = json.loads(finish_config(said, Tree((base, first, second)), AMD, times))
    one, two = "1970-01-01T00:00:01.000000000Z", "1970-01-01T00:00:02.000000000Z"
    assert [line["created"] for line in made["history"]] == ["2020-01-01T00:00:00Z", one, one, one, two]
    assert made["created"] == two
    assert finish_config(said, Tree((base, first, second)), AMD, Times(NOW + 1, times.made_ns)) == finish_config(
        said, Tree((base, first, second)), AMD, times
    ), "the same image, whenever it is built again"
