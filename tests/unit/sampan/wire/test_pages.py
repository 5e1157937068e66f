"""Answers in pages."""

from collections.abc import AsyncIterator, Sequence

from sampan.api.image.v1 import images_pb2
from sampan.api.runtime.v1 import containers_pb2
from sampan.wire.pages import PAGE_BYTES, batches, items_of, pages, whole


class Call:
    """An answer that has come."""

    def __init__(self, answer: Sequence[images_pb2.RemoveResponse]) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[images_pb2.RemoveResponse]:
        for page in self._answer:
            yield page

    def cancel(self) -> bool:
        return False


def changes(*sizes: int) -> list[images_pb2.RemoveResponse.Change]:
    return [images_pb2.RemoveResponse.Change(untagged="x" * size) for size in sizes]


def test_a_short_list_is_one_page_and_an_empty_one_too() -> None:
    assert len(list(pages(images_pb2.RemoveResponse, "changes", changes(10, 20)))) == 1
    assert list(pages(images_pb2.RemoveResponse, "changes", ())) == [images_pb2.RemoveResponse()]


def test_a_page_is_closed_as_soon_as_it_is_full_and_no_item_is_divided() -> None:
    found = list(pages(images_pb2.RemoveResponse, "changes", changes(PAGE_BYTES - 100, 50, 3 * PAGE_BYTES, 1, 1)))
    assert [[len(change.untagged) for change in page.changes] for page in found] == [
        [PAGE_BYTES - 100, 50, 3 * PAGE_BYTES],
        [1, 1],
    ]


async def test_pages_make_a_whole_again_with_what_the_last_one_says() -> None:
    items = changes(*[PAGE_BYTES // 2] * 7)
    found = list(pages(images_pb2.RemoveResponse, "changes", items, reclaimed_bytes=5))
    assert [page.reclaimed_bytes for page in found] == [0, 0, 0, 5]
    assert await whole(Call(found)) == images_pb2.RemoveResponse(changes=items, reclaimed_bytes=5)


def test_text_is_paged_like_messages() -> None:
    found = list(pages(images_pb2.TagsResponse, "tags", (str(number) for number in range(200_000))))
    assert [tag for page in found for tag in page.tags] == [str(number) for number in range(200_000)]
    assert len(found) == 3


def test_batches_hold_everything_once() -> None:
    assert list(batches(["aa", "b", "ccc", "d"], len, 3)) == [["aa", "b"], ["ccc"], ["d"]]
    assert list(batches([], len, 3)) == []


def containers(*sizes: int) -> list[containers_pb2.Container]:
    return [containers_pb2.Container(id="x" * size) for size in sizes]


def test_items_of_a_page_are_as_they_were_sent() -> None:
    for sizes in ((), (0,), (1, 127, 128, 300, 70_000)):
        (page,) = pages(containers_pb2.ListContainersResponse, "containers", containers(*sizes))
        assert items_of(page.SerializeToString()) == [one.SerializeToString() for one in containers(*sizes)]


def test_a_page_that_holds_anything_else_is_not_taken_apart() -> None:
    (page,) = pages(containers_pb2.ListContainersResponse, "containers", containers(5))
    sent = page.SerializeToString()
    for other in (sent[:-1], sent + b"\x0a", sent + b"\x12\x00", sent + b"\x0a\x05", sent + b"\x0a\x80"):
        assert items_of(other) is None
