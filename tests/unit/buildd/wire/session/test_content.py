import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from buildd.session.protocol import ClientContent, Session
from sampan.errors import DataLossError, NotFoundError, UnavailableError
from sampan.oci.digest import Digest
from tests.fakes.session_client import FakeSessionClient, attached

DATA = os.urandom(2_500_000)
DIGEST = Digest.parse(f"sha256:{hashlib.sha256(DATA).hexdigest()}")


@pytest.fixture
def client() -> FakeSessionClient:
    return FakeSessionClient(stores={"local:layout": {}})


@pytest.fixture
async def session(client: FakeSessionClient, tmp_path: Path) -> AsyncIterator[Session]:
    async with attached(client, tmp_path) as attached_session:
        yield attached_session


@pytest.fixture
def content(session: Session) -> ClientContent:
    return session.content("local:layout")


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(content: ClientContent, offset: int = 0, size: int = 0) -> bytes:
    return b"".join([piece async for piece in content.read(DIGEST, offset, size)])


async def test_blob_that_was_written_can_be_read_whole_and_in_part(content: ClientContent) -> None:
    await content.write(DIGEST, len(DATA), chunks(DATA[:7], DATA[7:]), {"label": "value"})
    blob = await content.info(DIGEST)
    assert (blob.digest, blob.size, blob.labels) == (DIGEST, len(DATA), {"label": "value"})
    assert await read(content) == DATA
    assert await read(content, 5, 9) == DATA[5:14]


async def test_blob_that_the_client_has_is_not_sent(content: ClientContent, client: FakeSessionClient) -> None:
    await content.write(DIGEST, len(DATA), chunks(DATA))
    client.written.clear()
    await content.write(DIGEST, len(DATA), chunks(DATA))
    assert client.written == []


async def test_write_begins_anew_where_an_earlier_one_broke_off(
    content: ClientContent, client: FakeSessionClient
) -> None:
    client.ingests[f"sampan-{DIGEST}"] = bytearray(b"of an earlier try")
    await content.write(DIGEST, len(DATA), chunks(DATA))
    assert client.stores["local:layout"][DIGEST] == (DATA, {})


@pytest.mark.parametrize("data", [DATA[:-1], DATA + b"x"])
async def test_blob_of_another_size_is_not_committed(
    content: ClientContent, client: FakeSessionClient, data: bytes
) -> None:
    with pytest.raises(DataLossError, match="bytes"):
        await content.write(DIGEST, len(DATA), chunks(data))
    assert client.stores["local:layout"] == {}


async def test_blob_of_other_bytes_is_refused_by_the_client(content: ClientContent) -> None:
    with pytest.raises(DataLossError, match="unexpected digest"):
        await content.write(DIGEST, len(DATA), chunks(bytes(len(DATA))))


async def test_blob_and_store_that_the_client_has_not_are_not_found(session: Session) -> None:
    with pytest.raises(NotFoundError, match="not found"):
        await session.content("local:layout").info(DIGEST)
    with pytest.raises(NotFoundError, match="not found"):
        await read(session.content("local:layout"))
    with pytest.raises(NotFoundError, match="unknown store other"):
        await session.content("other").info(DIGEST)


async def test_store_is_unavailable_when_the_session_has_ended(client: FakeSessionClient, tmp_path: Path) -> None:
    async with attached(client, tmp_path) as session:
        content = session.content("local:layout")
    with pytest.raises(UnavailableError, match="session s1 of the client has ended"):
        await content.info(DIGEST)
