"""What any content store owes its clients: containerd's semantics, as behaviours.

A test class inherits ``ContentContract`` and has a fixture ``content`` that yields a ``Content``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import pytest

from sampan.errors import AlreadyExistsError, ConflictError, InvalidArgumentError, NotFoundError, UnavailableError
from sampan.oci.digest import Digest

HELLO = b"hello, world"
HELLO_DIGEST = Digest.of(HELLO)
LARGE = bytes(range(256)) * 10_000


@dataclass(frozen=True)
class Info:
    digest: str
    size: int
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    offset: int
    total: int
    digest: str


@dataclass(frozen=True)
class Step:
    """One message of a writer; ``action`` is STAT, WRITE or COMMIT."""

    action: str
    ref: str = ""
    data: bytes = b""
    offset: int = 0
    total: int = 0
    expected: str = ""
    labels: Mapping[str, str] | None = None


class Writer(Protocol):
    """A conversation that is open."""

    async def send(self, step: Step) -> Reply: ...

    async def close(self) -> None: ...

    async def vanish(self) -> None:
        """End the conversation as a client does that is killed."""
        ...


class Content(Protocol):
    """A content store as its clients see it."""

    async def info(self, digest: str) -> Info: ...

    async def update(self, digest: str, labels: Mapping[str, str], paths: Sequence[str] = ()) -> Info: ...

    async def find(self, *filters: str) -> list[Info]: ...

    async def delete(self, digest: str) -> None: ...

    async def read(self, digest: str, offset: int = 0, size: int = 0) -> bytes: ...

    async def status(self, ref: str) -> Reply: ...

    async def refs(self, *filters: str) -> list[str]: ...

    async def abort(self, ref: str) -> None: ...

    def writer(self, *, resumable: bool = True) -> Writer: ...


async def write(content: Content, data: bytes, ref: str = "r", labels: Mapping[str, str] | None = None) -> str:
    """Write ``data`` in one go and return its digest."""
    writer = content.writer()
    await writer.send(Step("WRITE", ref, data))
    reply = await writer.send(Step("COMMIT", offset=len(data), total=len(data), labels=labels))
    await writer.close()
    return reply.digest


class ContentContract:
    """Inherit it and add the fixture."""

    async def test_what_was_written_can_be_read(self, content: Content) -> None:
        digest = await write(content, LARGE)
        assert digest == Digest.of(LARGE)
        assert await content.read(digest) == LARGE
        assert (await content.info(digest)).size == len(LARGE)

    async def test_nothing_at_all_is_content_too(self, content: Content) -> None:
        digest = await write(content, b"")
        assert await content.read(digest) == b""

    @pytest.mark.parametrize(("offset", "size"), [(0, 5), (7, 5), (7, 0), (12, 0), (0, 12)])
    async def test_part_of_a_blob_can_be_read(self, content: Content, offset: int, size: int) -> None:
        await write(content, HELLO)
        expected = HELLO[offset : offset + size] if size else HELLO[offset:]
        assert await content.read(HELLO_DIGEST, offset, size) == expected

    @pytest.mark.parametrize(("offset", "size"), [(13, 0), (0, 13), (12, 1), (-1, 0), (0, -1)])
    async def test_reading_past_the_end_is_refused(self, content: Content, offset: int, size: int) -> None:
        await write(content, HELLO)
        with pytest.raises(InvalidArgumentError):
            await content.read(HELLO_DIGEST, offset, size)

    async def test_unknown_content_is_not_found(self, content: Content) -> None:
        for call in (content.info, content.read, content.delete):
            with pytest.raises(NotFoundError, match=HELLO_DIGEST):
                await call(HELLO_DIGEST)
        with pytest.raises(NotFoundError):
            await content.update(HELLO_DIGEST, {"a": "b"})

    @pytest.mark.parametrize("digest", ["", "sha256:../x", "md5:00", HELLO_DIGEST.upper()])
    async def test_what_is_no_digest_is_refused(self, content: Content, digest: str) -> None:
        with pytest.raises(InvalidArgumentError):
            await content.info(digest)

    async def test_deleted_content_is_gone(self, content: Content) -> None:
        await write(content, HELLO)
        await content.delete(HELLO_DIGEST)
        with pytest.raises(NotFoundError):
            await content.info(HELLO_DIGEST)
        assert await write(content, HELLO) == HELLO_DIGEST

    async def test_labels_come_with_the_commit(self, content: Content) -> None:
        await write(content, HELLO, labels={"a": "b"})
        assert (await content.info(HELLO_DIGEST)).labels == {"a": "b"}

    async def test_labels_are_replaced_as_a_whole_or_one_by_one(self, content: Content) -> None:
        await write(content, HELLO, labels={"a": "1", "b": "2"})
        assert (await content.update(HELLO_DIGEST, {"a.x": "3", "b": "4"}, ["labels.a.x"])).labels == {
            "a": "1",
            "b": "2",
            "a.x": "3",
        }
        assert "b" not in (await content.update(HELLO_DIGEST, {}, ["labels.b"])).labels
        assert (await content.update(HELLO_DIGEST, {"c": "5"}, ["labels"])).labels == {"c": "5"}
        assert (await content.update(HELLO_DIGEST, {"d": "6"})).labels == {"d": "6"}

    async def test_only_labels_can_be_updated(self, content: Content) -> None:
        await write(content, HELLO)
        with pytest.raises(InvalidArgumentError, match="size"):
            await content.update(HELLO_DIGEST, {}, ["size"])

    async def test_list_takes_filters_and_any_may_match(self, content: Content) -> None:
        other = await write(content, b"other", labels={"kind": "layer", "a.b/c": "x y"})
        await write(content, HELLO)
        assert {info.digest for info in await content.find()} == {HELLO_DIGEST, other}
        for accepted in (f"digest=={other}", "labels.kind==layer", 'labels."a.b/c"=="x y"', "labels.kind", "size==5"):
            assert [info.digest for info in await content.find(accepted)] == [other]
        assert len(await content.find(f"digest=={other}", f"digest~=^{HELLO_DIGEST}$")) == 2
        assert await content.find(f"digest=={other},labels.kind!=layer") == []

    @pytest.mark.parametrize("text", ["==", "digest=", "labels.a~=(", 'labels."x', "a b"])
    async def test_what_is_no_filter_is_refused(self, content: Content, text: str) -> None:
        with pytest.raises(InvalidArgumentError, match="filter"):
            await content.find(text)

    async def test_writing_needs_a_ref(self, content: Content) -> None:
        with pytest.raises(InvalidArgumentError, match="reference"):
            await content.writer().send(Step("WRITE", data=HELLO))

    async def test_write_that_was_cut_off_goes_on_by_its_ref(self, content: Content) -> None:
        writer = content.writer()
        await writer.send(Step("WRITE", "r", HELLO[:5], total=len(HELLO)))
        await writer.close()
        assert await content.refs() == ["r"]
        assert (await content.status("r")).offset == 5
        writer = content.writer()
        reply = await writer.send(Step("STAT", "r"))
        assert reply == Reply(5, len(HELLO), Digest.of(HELLO[:5]))
        await writer.send(Step("WRITE", data=HELLO[5:], offset=5))
        reply = await writer.send(Step("COMMIT", offset=len(HELLO), expected=HELLO_DIGEST))
        await writer.close()
        assert reply == Reply(len(HELLO), len(HELLO), HELLO_DIGEST)
        assert await content.refs() == []

    async def test_write_at_another_offset_is_refused(self, content: Content) -> None:
        writer = content.writer()
        await writer.send(Step("WRITE", "r", HELLO))
        with pytest.raises(InvalidArgumentError, match="must occur at current offset 12"):
            await writer.send(Step("WRITE", data=HELLO, offset=7))

    async def test_write_at_offset_zero_begins_anew(self, content: Content) -> None:
        writer = content.writer()
        await writer.send(Step("WRITE", "r", b"wrong start"))
        await writer.send(Step("WRITE", data=HELLO))
        assert (await writer.send(Step("COMMIT", offset=len(HELLO)))).digest == HELLO_DIGEST
        await writer.close()
        assert await content.read(HELLO_DIGEST) == HELLO

    async def test_commit_may_bring_the_last_bytes(self, content: Content) -> None:
        writer = content.writer()
        await writer.send(Step("WRITE", "r", HELLO[:5]))
        await writer.send(Step("COMMIT", data=HELLO[5:], offset=5, expected=HELLO_DIGEST))
        await writer.close()
        assert await content.read(HELLO_DIGEST) == HELLO

    async def test_commit_of_another_digest_is_a_conflict_and_stays(self, content: Content) -> None:
        writer = content.writer()
        await writer.send(Step("WRITE", "r", b"something else"))
        with pytest.raises(ConflictError, match=f"unexpected commit digest .*, expected {HELLO_DIGEST}"):
            await writer.send(Step("COMMIT", offset=14, expected=HELLO_DIGEST))
        await writer.close()
        assert await content.refs() == ["r"]
        assert await content.find() == []

    async def test_commit_of_another_size_is_a_conflict(self, content: Content) -> None:
        writer = content.writer()
        await writer.send(Step("WRITE", "r", HELLO))
        with pytest.raises(ConflictError, match="unexpected commit size 12, expected 13"):
            await writer.send(Step("COMMIT", offset=12, total=13))

    async def test_content_that_is_here_need_not_be_written_again(self, content: Content) -> None:
        await write(content, HELLO)
        with pytest.raises(AlreadyExistsError, match=HELLO_DIGEST):
            await content.writer().send(Step("STAT", "r", expected=HELLO_DIGEST))
        writer = content.writer()
        await writer.send(Step("WRITE", "again", HELLO))
        with pytest.raises(AlreadyExistsError, match=HELLO_DIGEST):
            await writer.send(Step("COMMIT", offset=len(HELLO)))
        assert await content.refs() == []

    async def test_ref_has_one_writer_at_a_time(self, content: Content) -> None:
        first = content.writer()
        await first.send(Step("WRITE", "r", HELLO))
        with pytest.raises(UnavailableError, match="locked"):
            await content.writer().send(Step("STAT", "r"))
        with pytest.raises(UnavailableError, match="locked"):
            await content.abort("r")
        await first.close()

    async def test_aborted_write_is_gone(self, content: Content) -> None:
        writer = content.writer()
        await writer.send(Step("WRITE", "r", HELLO))
        await writer.close()
        await content.abort("r")
        for call in (content.status, content.abort):
            with pytest.raises(NotFoundError, match="ingest ref r"):
                await call("r")

    async def test_write_is_aborted_as_soon_as_its_call_is_over(self, content: Content) -> None:
        for number in range(20):
            writer = content.writer()
            await writer.send(Step("WRITE", f"r{number}", LARGE))
            await writer.vanish()
            await content.abort(f"r{number}")
        assert await content.refs() == []

    async def test_writer_that_lost_its_call_goes_on_at_once(self, content: Content) -> None:
        offset = 0
        for piece in (LARGE[:1000], LARGE[1000:5000], LARGE[5000:]):
            writer = content.writer()
            assert (await writer.send(Step("STAT", "r"))).offset == offset
            offset = (await writer.send(Step("WRITE", data=piece, offset=offset))).offset
            await writer.vanish()
        writer = content.writer()
        assert (await writer.send(Step("STAT", "r"))).digest == Digest.of(LARGE)
        await writer.close()

    @pytest.mark.parametrize("end", ["close", "vanish"])
    async def test_write_that_nobody_resumes_goes_with_its_call(self, content: Content, end: str) -> None:
        for last in (
            Step("STAT", "r", expected=HELLO_DIGEST),
            Step("WRITE", "r", HELLO, expected=HELLO_DIGEST),
            Step("COMMIT", "r", HELLO, expected=Digest.of(b"other")),
        ):
            writer = content.writer(resumable=False)
            if last.action == "COMMIT":
                with pytest.raises(ConflictError):
                    await writer.send(last)
            else:
                await writer.send(last)
                assert await content.refs() == ["r"]
            await (writer.close() if end == "close" else writer.vanish())
            with pytest.raises(NotFoundError, match="ingest ref r"):
                await content.abort("r")
        assert await content.find() == []

    async def test_write_that_nobody_resumes_becomes_a_blob(self, content: Content) -> None:
        writer = content.writer(resumable=False)
        await writer.send(Step("WRITE", "r", HELLO))
        await writer.send(Step("COMMIT", offset=len(HELLO), expected=HELLO_DIGEST))
        await writer.close()
        assert await content.read(HELLO_DIGEST) == HELLO
        with pytest.raises(AlreadyExistsError):
            await content.writer(resumable=False).send(Step("STAT", "r", expected=HELLO_DIGEST))
        assert await content.refs() == []

    async def test_writes_are_listed_by_filter(self, content: Content) -> None:
        for ref in ("one", "two"):
            writer = content.writer()
            await writer.send(Step("WRITE", ref, HELLO))
            await writer.close()
        assert await content.refs() == ["one", "two"]
        assert await content.refs("ref==two") == ["two"]
        assert await content.refs("ref~=^o") == ["one"]
