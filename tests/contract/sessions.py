"""What ``buildd.session.protocol`` promises of the clients of builds, and of who is attached."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildd.build.protocol import SourceState
from buildd.llb.ops import SourceOp
from buildd.session.protocol import (
    ClientContent,
    Credentials,
    LocalFiles,
    PolicyDecision,
    Session,
    SessionInfo,
    Sessions,
    SocketOwner,
)
from sampan.build.policy import Action
from sampan.errors import (
    AlreadyExistsError,
    DataLossError,
    InvalidArgumentError,
    NotFoundError,
    RemoteError,
    UnavailableError,
)
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from tests.fakes.byte_stream import FakeByteStream

BLOB = b"a blob of the client's"

# What the client of a suite has.
SECRETS = {"token": b"\0secret\n", "empty": b"", "large": bytes((500 << 10) + 1)}
AGENTS = {"default", "work"}
LOGINS = {"registry.test:5000": ("me", "pass"), "token.test": ("", "identity")}
DIRECTORY = {"a": "1", "b": "22"}
UPLOAD = "http://buildkit-session/upload"
DENIED, WHY = "docker-image://denied:1", "it is old"
METHODS = frozenset(("/moby.filesync.v1.FileSync/DiffCopy", "/moby.filesync.v1.FileSend/DiffCopy"))


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What the contract needs: a session of a client that has what is above, the directory as "context"."""

    session: Session
    given: Callable[[str], tuple[bytes, Mapping[str, str]]]  # the file that an exporter gave it, and the words with it
    tree: Callable[[], Mapping[str, bytes]]  # what the exporter "tree" gave it
    end: Callable[[], Awaitable[object]]  # it goes away


class SessionContract:
    """Of ``session.protocol.Session``; subclass with a fixture ``parts``."""

    promises: tuple[type, ...] = (Session,)

    @pytest.fixture
    def session(self, parts: SessionParts) -> Session:
        return parts.session

    @pytest.fixture
    def into(self, tmp_path: Path) -> Path:
        made = tmp_path / "into"
        made.mkdir()
        return made

    async def test_it_decides_on_sources(self, session: Session) -> None:
        for identifier, decision in (
            (DENIED, PolicyDecision(Action.DENY, (WHY,))),
            ("local://context", PolicyDecision(Action.ALLOW)),
        ):
            state = SourceState(SourceOp(identifier))
            assert await session.check_policy(state, Platform("linux", "amd64")) == decision

    async def test_a_directory_is_brought_and_then_only_what_is_not_there(self, session: Session, into: Path) -> None:
        (into / "stray").write_text("nobody's")
        report = await session.sync(LocalFiles("context"), into)
        assert (report.files, report.bytes_sent, report.bytes_saved) == (2, 3, 0)
        assert {path.name: path.read_text() for path in into.iterdir()} == DIRECTORY
        assert set(map(os.fsdecode, report.changed)) == {"stray", *DIRECTORY}
        report = await session.sync(LocalFiles("context"), into)
        assert (report.bytes_sent, report.bytes_saved, report.changed) == (0, 3, ())

    async def test_a_directory_that_the_client_has_not_is_not_found(self, session: Session, into: Path) -> None:
        with pytest.raises(NotFoundError):
            await session.sync(LocalFiles("nosuch"), into)
        assert list(into.iterdir()) == []

    @pytest.mark.parametrize("name", ["token", "empty"])
    async def test_a_secret_is_told_byte_for_byte(self, session: Session, name: str) -> None:
        assert await session.secret(name) == SECRETS[name]

    async def test_a_secret_that_the_client_has_not_is_not_found_and_a_large_one_refused(
        self, session: Session
    ) -> None:
        with pytest.raises(NotFoundError):
            await session.secret("nope")
        with pytest.raises(InvalidArgumentError, match="invalid secret size"):
            await session.secret("large")

    async def test_credentials_are_those_of_the_registry(self, session: Session) -> None:
        for host, login in LOGINS.items():
            assert await session.credentials(host) == Credentials(*login)
        assert await session.credentials("other.test") is None

    @pytest.mark.parametrize("name", ["", *sorted(AGENTS)])
    async def test_an_agent_is_known_by_its_name_and_without_one_by_default(self, session: Session, name: str) -> None:
        await session.check_agent(name)

    async def test_an_agent_that_the_client_does_not_forward_is_not_found(self, session: Session) -> None:
        with pytest.raises(NotFoundError):
            await session.check_agent("nope")

    async def test_an_agent_s_socket_can_be_opened_twice(self, session: Session) -> None:
        owner = SocketOwner(os.getuid(), os.getgid(), 0o600)
        with tempfile.TemporaryDirectory() as place:  # not tmp_path: that is too long for a socket
            one, other = Path(place, "one"), Path(place, "other")
            async with session.ssh_socket("work", one, owner), session.ssh_socket("work", other, owner):
                assert (one.is_socket(), other.is_socket()) == (True, True)
            assert not one.exists()
            async with session.ssh_socket("work", one, owner):
                pass

    async def test_a_file_is_given_with_its_words_to_the_exporter_s_target(self, parts: SessionParts) -> None:
        assert await parts.session.send_file(chunks(b"some", b"", b" more"), {"key": "value"}, "3") == 9
        assert parts.given("3") == (b"some more", {"key": "value"})

    async def test_a_directory_is_given_whole(self, parts: SessionParts, tmp_path: Path) -> None:
        (tmp_path / "out/d").mkdir(parents=True)
        (tmp_path / "out/d/f").write_bytes(b"content")
        (tmp_path / "out/e").write_bytes(b"e")
        told: list[int] = []
        assert await parts.session.send_files(tmp_path / "out", None, "tree", told.append) == 8
        assert parts.tree() == {"d": b"", "d/f": b"content", "e": b"e"}
        assert told == sorted(told)

    async def test_an_upload_is_pulled_once(self, session: Session) -> None:
        assert b"".join([piece async for piece in session.pull_upload(UPLOAD)]) == BLOB
        with pytest.raises(RemoteError):
            await anext(session.pull_upload(UPLOAD))

    async def test_methods_are_compared_without_case(self, session: Session) -> None:
        assert session.serves("/moby.filesync.v1.FileSend/diffcopy")
        assert not session.serves("/moby.upload.v1.Upload/Pull")

    async def test_a_client_that_has_gone_is_unavailable(self, parts: SessionParts, into: Path) -> None:
        content = parts.session.content("store")
        await parts.end()
        for asked in (
            parts.session.sync(LocalFiles("context"), into),
            parts.session.secret("token"),
            parts.session.credentials("registry.test:5000"),
            parts.session.check_agent(),
            parts.session.send_file(chunks(b"late")),
            content.info(Digest.of(BLOB)),
        ):
            with pytest.raises(UnavailableError, match="has ended"):
                await asked


class ClientContentContract:
    """Of ``session.protocol.ClientContent``; subclass with ``content``, which has ``BLOB``."""

    promises: tuple[type, ...] = (ClientContent,)

    async def _read(self, content: ClientContent, digest: str, offset: int = 0, size: int = 0) -> bytes:
        return b"".join([piece async for piece in content.read(digest, offset, size)])

    async def test_a_blob_is_told_and_read_from_anywhere(self, content: ClientContent) -> None:
        digest = Digest.of(BLOB)
        found = await content.info(digest)
        assert (found.digest, found.size) == (digest, len(BLOB))
        assert await self._read(content, digest) == BLOB
        assert await self._read(content, digest, 2, 3) == BLOB[2:5]

    async def test_what_is_not_there_is_not_found(self, content: ClientContent) -> None:
        missing = Digest.of(b"missing")
        with pytest.raises(NotFoundError):
            await content.info(missing)
        with pytest.raises(NotFoundError):
            await self._read(content, missing)

    async def test_what_is_written_is_there(self, content: ClientContent) -> None:
        await content.write(Digest.of(b"written"), 7, chunks(b"writ", b"ten"))
        assert await self._read(content, Digest.of(b"written")) == b"written"

    async def test_a_blob_that_is_there_is_not_sent_again(self, content: ClientContent) -> None:
        sent: list[bytes] = []

        async def noted() -> AsyncIterator[bytes]:
            sent.append(BLOB)
            yield BLOB

        await content.write(Digest.of(BLOB), len(BLOB), noted())
        assert sent == []

    @pytest.mark.parametrize(("data", "size"), [(b"other", 7), (b"writte!", 7), (b"written", 8)])
    async def test_what_is_not_as_it_was_told_is_not_kept(self, content: ClientContent, data: bytes, size: int) -> None:
        with pytest.raises(DataLossError):
            await content.write(Digest.of(b"written"), size, chunks(data))
        with pytest.raises(NotFoundError):
            await content.info(Digest.of(b"written"))


class SessionsContract:
    """Of ``session.protocol.Sessions``; subclass with a fixture ``sessions``, where nobody is attached."""

    promises: tuple[type, ...] = (Sessions,)

    async def test_one_is_found_while_its_connection_lasts(self, sessions: Sessions) -> None:
        ours, theirs = FakeByteStream.pair()
        attaching = asyncio.create_task(sessions.attach(ours, SessionInfo("client", shared_key="key")))
        found = await sessions.get("client")
        assert found.info.shared_key == "key"
        assert await sessions.get("context:client") is found
        assert [each.id for each in sessions.attached()] == ["client"]
        await theirs.close()
        await attaching
        assert ours.closed
        assert list(sessions.attached()) == []
        with pytest.raises(NotFoundError, match="client"):
            await sessions.get("client", timeout_s=0)

    async def test_who_waits_for_one_gets_it_when_it_comes(self, sessions: Sessions) -> None:
        waiting = [asyncio.create_task(sessions.get("late")) for _ in range(2)]
        with pytest.raises(NotFoundError, match="late"):
            await sessions.get("late", timeout_s=0)
        ours, _ = FakeByteStream.pair()
        attaching = asyncio.create_task(sessions.attach(ours, SessionInfo("late")))
        one, other = await asyncio.gather(*waiting)
        assert one is other
        attaching.cancel()
        with suppress(asyncio.CancelledError):
            await attaching
        assert ours.closed

    async def test_an_id_that_is_attached_or_none_is_refused_and_hung_up_on(self, sessions: Sessions) -> None:
        first, peer = FakeByteStream.pair()
        attaching = asyncio.create_task(sessions.attach(first, SessionInfo("client")))
        await sessions.get("client")
        for name, kind in (("client", AlreadyExistsError), ("", InvalidArgumentError)):
            second, _ = FakeByteStream.pair()
            with pytest.raises(kind):
                await sessions.attach(second, SessionInfo(name))
            assert second.closed
        assert not first.closed
        await peer.close()
        await attaching
