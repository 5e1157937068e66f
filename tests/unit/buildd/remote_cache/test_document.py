"""Results of a build in the config of an image."""

import base64
import json

import pytest

from buildd.protocol import Tree
from buildd.remote_cache.document import (
    MEMBER,
    CacheDocument,
    CachedResult,
    parse_document,
    render_document,
    whole,
    within,
)
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest
from tests.fakes.build_stores import layer

A, B, C, D = map(layer, "abcd")
ONE, TWO, THREE = (CachedResult(Digest.of(name), trees) for name, trees in (
    (b"one", (Tree((A, B)),)),
    (b"two", (Tree((A, B, C), (2,)),)),
    (b"three", (Tree((D,)), Tree(()))),
))  # fmt: skip


def config(document: bytes) -> bytes:
    return json.dumps({"architecture": "amd64", MEMBER: base64.b64encode(document).decode()}).encode()


def test_what_is_written_is_read() -> None:
    document = whole([ONE, TWO, THREE])
    assert document.layers == (A, B, C, D)
    read = parse_document(config(render_document(document)), document.layers, "x")
    assert read == document
    assert read.results[TWO.key][0].unchanged == (2,)


def test_an_image_carries_what_its_own_layers_are_enough_for() -> None:
    document = within(Tree((A, B, C)), [ONE, TWO, THREE])
    assert set(document.results) == {ONE.key, TWO.key}
    assert document.layers == (A, B, C)


def test_an_image_may_say_nothing_or_something_of_buildkits() -> None:
    assert parse_document(b"{}", (A,), "x") == CacheDocument((A,))
    buildkits = json.dumps([{"layers": [{"blob": "sha256:" + "0" * 64}], "records": []}]).encode()
    assert parse_document(config(buildkits), (A,), "x") == CacheDocument((A,))


@pytest.mark.parametrize(
    "records",
    [
        3,
        [3],
        [{"key": "x", "outputs": []}],
        [{"key": ONE.key}],
        [{"key": ONE.key, "outputs": [{"layers": [1]}]}],
        [{"key": ONE.key, "outputs": [{"layers": [-1]}]}],
        [{"key": ONE.key, "outputs": [{"layers": ["0"]}]}],
        [{"key": ONE.key, "outputs": [{"layers": [True]}]}],
        [{"key": ONE.key, "outputs": [{"layers": [0], "unchanged": [2]}]}],
        [{"key": ONE.key, "outputs": 7}],
    ],
)
def test_what_lies_is_refused(records: object) -> None:
    document = json.dumps({"form": "sampan.v1", "records": records}).encode()
    with pytest.raises(InvalidArgumentError, match="x: "):
        parse_document(config(document), (A,), "x")


def test_what_is_no_base64_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="not base64"):
        parse_document(json.dumps({MEMBER: "%%"}).encode(), (A,), "x")
