"""Behaviours that whatever stands for the engine's content and images owes registryd: ``registryd.protocol``."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from registryd.protocol import Catalog, Contents
from registryd.repositories.model import Unkept
from registryd.repositories.roots import ROOT_PREFIX
from registryd.repositories.uploads import REF_PREFIX
from sampan.errors import ConflictError, NotFoundError, UnavailableError
from sampan.oci.digest import Digest

DATA = b"a layer, as far as anybody knows"
DIGEST = Digest.of(DATA)
ONE, OTHER = f"{ROOT_PREFIX}one", f"{ROOT_PREFIX}other"
REF = f"{REF_PREFIX}repository/upload"


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for each in data:
        yield each


class RegistryContentsContract:
    """Of ``registryd.protocol.Contents``; the fixture is empty."""

    promises: tuple[type, ...] = (Contents,)

    async def test_what_is_not_here_is_not_found(self, contents: Contents) -> None:
        with pytest.raises(NotFoundError):
            await contents.size(DIGEST)
        with pytest.raises(NotFoundError):
            await contents.keep(DIGEST, ONE, "owner")
        with pytest.raises(NotFoundError):
            await contents.state(REF)
        with pytest.raises(NotFoundError):
            await contents.abort(REF)
        await contents.let_go([Unkept(DIGEST, ONE)])

    async def test_a_small_blob_is_stored_and_read_in_part(self, contents: Contents) -> None:
        for _ in range(2):
            await contents.put(DIGEST, DATA, ONE, "owner")
        assert await contents.size(DIGEST) == len(DATA)
        assert b"".join([piece async for piece in contents.read(DIGEST)]) == DATA
        assert b"".join([piece async for piece in contents.read(DIGEST, 2, 5)]) == DATA[2:7]

    async def test_each_use_has_a_root_of_its_own(self, contents: Contents) -> None:
        await contents.put(DIGEST, DATA, ONE, "first")
        assert await contents.keep(DIGEST, OTHER, "second") == len(DATA)
        assert [(held.digest, held.roots) async for held in contents.held()] == [
            (DIGEST, {ONE: "first", OTHER: "second"})
        ]
        for _ in range(2):
            await contents.let_go([Unkept(DIGEST, ONE)])
        assert [each async for each in contents.roots()] == [Unkept(DIGEST, OTHER)]

    async def test_a_write_goes_on_where_it_is_and_becomes_a_blob(self, contents: Contents) -> None:
        await contents.begin(REF)
        state = await contents.append(REF, 0, pieces(DATA[:5], DATA[5:9]))
        assert (state.offset, state.digest) == (9, Digest.of(DATA[:9]))
        assert await contents.offset(REF) == 9
        assert await contents.append(REF, 9, pieces(DATA[9:])) == await contents.state(REF)
        assert [ref for ref, _ in await contents.writes()] == [REF]
        assert await contents.commit(REF, DIGEST, ONE, "owner") == len(DATA)
        assert await contents.writes() == []
        assert [held.roots async for held in contents.held()] == [{ONE: "owner"}]

    async def test_pieces_that_break_off_stay_and_can_be_dropped_at_once(self, contents: Contents) -> None:
        async def broken() -> AsyncIterator[bytes]:
            yield DATA[:5]
            raise UnavailableError("the client has gone")

        await contents.begin(REF)
        with pytest.raises(UnavailableError):
            await contents.append(REF, 0, broken())
        assert (await contents.state(REF)).digest == Digest.of(DATA[:5])
        with pytest.raises(UnavailableError):
            await contents.append(REF, 5, broken())
        await contents.abort(REF)
        assert await contents.writes() == []

    async def test_a_small_blob_of_another_digest_is_refused_and_leaves_nothing(self, contents: Contents) -> None:
        with pytest.raises(ConflictError):
            await contents.put(DIGEST, b"other", ONE, "owner")
        assert await contents.writes() == []
        assert [held async for held in contents.held()] == []

    async def test_a_write_that_is_dropped_leaves_nothing(self, contents: Contents) -> None:
        await contents.begin(REF)
        await contents.append(REF, 0, pieces(DATA))
        await contents.abort(REF)
        assert await contents.writes() == []
        with pytest.raises(NotFoundError):
            await contents.size(DIGEST)


@dataclass(frozen=True, slots=True)
class CatalogParts:
    """A catalog without images."""

    catalog: Catalog
    add: Callable[[str], Awaitable[str]]  # make an image of that name, and return its ID


class CatalogContract:
    """Of ``registryd.protocol.Catalog``; subclass with a fixture ``parts``."""

    promises: tuple[type, ...] = (Catalog,)

    async def test_there_is_nothing_until_there_is_an_image(self, parts: CatalogParts) -> None:
        assert await parts.catalog.images() == ()
        made = await parts.add("web:1")
        (found,) = await parts.catalog.images()
        assert "docker.io/library/web:1" in map(str, found.names)
        assert found.target == found.manifest
        assert made in found.contents
        assert found.target.digest not in found.contents
        assert all(size > 0 for size in found.contents.values())

    async def test_every_image_is_there(self, parts: CatalogParts) -> None:
        made = {await parts.add(name) for name in ("web:1", "db:1")}
        assert len(made) == 2
        assert made <= {digest for each in await parts.catalog.images() for digest in each.contents}
