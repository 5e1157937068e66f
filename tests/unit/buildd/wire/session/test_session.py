import asyncio
import hashlib
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from buildd.build.protocol import SourceQuery, SourceState
from buildd.llb.ops import SourceOp
from buildd.protocol import Pinned, ResolvedImage
from buildd.session.protocol import (
    Credentials,
    LocalFiles,
    PolicyDecision,
    Session,
    SessionInfo,
    SocketOwner,
)
from buildd.source_metadata import (
    AttestationChain,
    AttestationQuery,
    AttestedBlob,
    Checksum,
    ChecksumQuery,
    GitObjects,
)
from buildd.wire.session.session import ClientSession
from sampan.api.buildkit.session.v1 import fsutil_pb2 as fs
from sampan.api.buildkit.sourcepolicy.v1 import session_pb2
from sampan.build.policy import Action
from sampan.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    RemoteError,
    SampanError,
    UnavailableError,
    UnimplementedError,
)
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource.image import AnnotatedDescriptor
from sampan.wire.http2.connection import Connection
from tests.fakes.byte_stream import FakeByteStream
from tests.fakes.session_client import FakeSessionClient, Script, attached

STAT = fs.Packet.PACKET_STAT
DATA = fs.Packet.PACKET_DATA
FIN = fs.Packet.PACKET_FIN
CONTEXT = LocalFiles("context")


@pytest.fixture
def client() -> FakeSessionClient:
    return FakeSessionClient()


@pytest.fixture
async def session(client: FakeSessionClient, tmp_path: Path) -> AsyncIterator[Session]:
    async with attached(client, tmp_path) as attached_session:
        yield attached_session


@pytest.fixture
def context(client: FakeSessionClient, tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "sub").mkdir(parents=True)
    (root / "sub/big").write_bytes(os.urandom(3_000_000))
    (root / "small").write_text("small")
    (root / "link").symlink_to("/etc/passwd")
    client.directories["context"] = root
    return root


@pytest.fixture
def into(tmp_path: Path) -> Path:
    root = tmp_path / "into"
    root.mkdir()
    return root


async def test_directory_of_the_client_is_brought_and_only_changes_are_brought_again(
    session: Session, client: FakeSessionClient, context: Path, into: Path
) -> None:
    seen: list[int] = []
    report = await session.sync(CONTEXT, into, seen.append)
    assert (into / "sub/big").read_bytes() == (context / "sub/big").read_bytes()
    assert (into / "link").is_symlink()
    assert (report.files, report.bytes_sent) == (2, 3_000_005)
    assert seen == sorted(seen)
    assert seen[-1] > 3_000_000
    client.requests.clear()
    (context / "small").write_text("changed")
    report = await session.sync(CONTEXT, into)
    assert report.changed == (b"small",)
    assert report.bytes_saved == 3_000_000
    assert len(client.requests) == 1
    assert (into / "small").read_text() == "changed"


async def test_many_small_files_go_at_once(session: Session, context: Path, into: Path) -> None:
    for number in range(500):
        (context / f"f{number:03}").write_text(str(number))
    report = await session.sync(CONTEXT, into)
    assert report.files == 502
    assert (into / "f499").read_text() == "499"


async def test_selection_is_told_and_what_is_not_ascii_is_escaped(
    session: Session, client: FakeSessionClient, context: Path, into: Path
) -> None:
    files = LocalFiles("context", ("a b", "ü/*"), ("**/*.md", "!x"), ("100%", "x+y"))
    await session.sync(files, into)
    (selection,) = client.selections
    assert selection["include-patterns"] == ["a b", "ü/*"]
    assert selection["exclude-patterns"] == ["**/*.md", "!x"]
    assert selection["followpaths"] == ["100%", "x+y"]


async def test_directory_that_the_client_does_not_give_is_not_found(session: Session, into: Path) -> None:
    with pytest.raises(NotFoundError, match='no access allowed to dir "other"'):
        await session.sync(LocalFiles("other"), into)


def said(*packets: fs.Packet, wait: bool = False) -> Script:
    """A sender that says this and no more."""

    async def script(requests: AsyncIterator[fs.Packet]) -> AsyncIterator[fs.Packet]:
        for packet in packets:
            yield packet
        if wait:
            async for _ in requests:
                pass

    return script


def told(path: str, mode: int = 0o644, **fields: int | bytes) -> fs.Packet:
    return fs.Packet(type=STAT, stat=fs.Stat(path=path.encode(), mode=mode, **fields))  # type: ignore[arg-type]


HOSTILE = {
    "escape": ([told("../../evil")], InvalidArgumentError),
    "below a link": ([told("a", 1 << 27, linkname=b"/tmp"), told("a/evil")], InvalidArgumentError),
    "type of no file": ([told("a", 1 << 19)], InvalidArgumentError),
    "name too long": ([told("a" * 300, 1 << 31)], InvalidArgumentError),
    "content unasked": ([fs.Packet(type=DATA, ID=7, data=b"x")], InvalidArgumentError),
    "end too early": ([told("a", size=1), fs.Packet(type=STAT), fs.Packet(type=FIN)], RemoteError),
    "its own words": ([fs.Packet(type=fs.Packet.PACKET_ERR, data=b"walk: denied")], RemoteError),
    "nothing at all": ([], RemoteError),
    "no end of a file": ([told("a", size=1), fs.Packet(type=STAT)], RemoteError),
}


@pytest.mark.parametrize(("packets", "kind"), HOSTILE.values(), ids=HOSTILE)
async def test_sender_that_breaks_the_rules_fails_the_transfer_and_leaves_no_half_file(
    packets: list[fs.Packet],
    kind: type[SampanError],
    session: Session,
    client: FakeSessionClient,
    into: Path,
    tmp_path: Path,
) -> None:
    client.scripts["context"] = said(*packets)
    with pytest.raises(kind):
        await session.sync(CONTEXT, into)
    assert not (tmp_path / "evil").exists()
    assert not [path for path in into.iterdir() if stat.S_ISREG(path.lstat().st_mode)]
    client.directories["empty"] = tmp_path / "empty"
    client.directories["empty"].mkdir()
    await session.sync(LocalFiles("empty"), into)  # the session goes on
    assert list(into.iterdir()) == []


async def test_cancelled_transfer_leaves_no_half_file_and_the_session_goes_on(
    session: Session, client: FakeSessionClient, context: Path, into: Path
) -> None:
    piece = fs.Packet(type=DATA, ID=0, data=b"half")
    client.scripts["stuck"] = said(told("file", size=8), fs.Packet(type=STAT), piece, wait=True)
    begun = asyncio.Event()
    syncing = asyncio.create_task(session.sync(LocalFiles("stuck"), into, lambda _: begun.set()))
    await begun.wait()
    syncing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await syncing
    assert list(into.iterdir()) == []
    assert (await session.sync(CONTEXT, into)).files == 2


async def test_transfer_fails_when_the_session_ends(client: FakeSessionClient, into: Path, tmp_path: Path) -> None:
    client.scripts["context"] = said(told("file", size=8), wait=True)
    begun = asyncio.Event()
    async with attached(client, tmp_path) as session:
        syncing = asyncio.create_task(session.sync(CONTEXT, into, lambda _: begun.set()))
        await begun.wait()
    with pytest.raises(UnavailableError, match="session s1 of the client has ended"):
        await syncing


async def test_the_client_decides_on_sources_when_it_knows_enough(session: Session, client: FakeSessionClient) -> None:
    image, other = SourceOp("docker-image://busybox:1"), SourceOp("docker-image://busybox:2", {"a": "b"})
    source, platform = {"identifier": image.identifier}, {"Architecture": "arm64", "OS": "linux"}

    def answer(**what: Any) -> None:
        client.verdicts[image.identifier] = session_pb2.CheckPolicyResponse(**what)

    answer(request={"Source": source, "Platform": platform, "LogName": "look", "Image": {"NoConfig": True}})
    arm = Platform("linux", "arm64")
    assert await session.check_policy(SourceState(image), arm) == SourceQuery(image, arm, "look", config=False)
    told = client.judged[0]
    assert (told.Source.Source.identifier, told.Platform.Architecture) == (image.identifier, "arm64")
    assert not told.Source.HasField("Image")
    answer(decision={"action": 1, "denyMessages": [{"message": "old"}, {"message": "large"}]})
    found = ResolvedImage("busybox:1", Digest.of(b"m"), b"{}")
    denied = PolicyDecision(Action.DENY, ("old", "large"))
    assert await session.check_policy(SourceState(image, Pinned(""), found), None) == denied
    assert (client.judged[1].Source.Image.Digest, client.judged[1].Source.Image.Config) == (found.digest, b"{}")
    update = {"identifier": other.identifier, "attrs": {"a": "b"}}
    answer(decision={"action": 2, "update": update})
    assert await session.check_policy(SourceState(image), None) == PolicyDecision(Action.CONVERT, update=other)


async def test_the_client_may_want_to_see_what_signs_a_commit(session: Session, client: FakeSessionClient) -> None:
    op = SourceOp("git://example.com/r.git#v1")
    request: Any = {"Source": {"identifier": op.identifier}, "Git": {"ReturnObject": True}}
    client.verdicts[op.identifier] = session_pb2.CheckPolicyResponse(request=request)
    query = await session.check_policy(SourceState(op), None)
    assert isinstance(query, SourceQuery)
    assert query.objects
    commit, tag = 40 * "c", 40 * "d"
    await session.check_policy(SourceState(op, Pinned("", commit), None, GitObjects(b"commit", b"tag", tag)), None)
    told = client.judged[-1].Source.Git
    assert (told.Checksum, told.CommitChecksum) == (tag, commit)
    assert (told.CommitObject, told.TagObject) == (b"commit", b"tag")


async def test_the_client_may_want_to_see_what_is_attested(session: Session, client: FakeSessionClient) -> None:
    op = SourceOp("docker-image://busybox:1")
    request: Any = {"Source": {"identifier": op.identifier}, "Image": {"ResolveAttestations": ["a", ""]}}
    client.verdicts[op.identifier] = session_pb2.CheckPolicyResponse(request=request)
    query = await session.check_policy(SourceState(op), None)
    assert isinstance(query, SourceQuery)
    assert query.attestations == AttestationQuery(("a",))
    root, said, signed = (Digest.of(name) for name in (b"root", b"said", b"signed"))
    blob = AttestedBlob(AnnotatedDescriptor("text/plain", said, 4, {"of": "us"}), b"said")
    chain = AttestationChain(root, Digest.of(b"image"), said, (signed,), {said: blob})
    await session.check_policy(SourceState(op, Pinned("", root), None, None, chain), None)
    told = client.judged[-1].Source.Image
    assert (told.Digest, told.AttestationChain.Root, told.AttestationChain.AttestationManifest) == (root, root, said)
    assert list(told.AttestationChain.SignatureManifests) == [signed]
    assert (told.AttestationChain.Blobs[said].data, told.AttestationChain.Blobs[said].descriptor.size) == (b"said", 4)
    assert dict(told.AttestationChain.Blobs[said].descriptor.annotations) == {"of": "us"}


async def test_the_client_may_want_a_checksum_as_signatures_have_it(
    session: Session, client: FakeSessionClient
) -> None:
    op = SourceOp("https://example.com/file")
    request: Any = {
        "Source": {"identifier": op.identifier},
        "HTTP": {"ChecksumRequest": {"Algo": "CHECKSUM_ALGO_SHA512", "Suffix": b"end"}},
    }
    client.verdicts[op.identifier] = session_pb2.CheckPolicyResponse(request=request)
    query = await session.check_policy(SourceState(op), None)
    assert isinstance(query, SourceQuery)
    assert query.checksum == ChecksumQuery("sha512", b"end")
    state = SourceState(op, Pinned("", "sha256:1"), checksum=Checksum("sha512:2", b"end"))
    await session.check_policy(state, None)
    told = client.judged[-1].Source.HTTP
    assert (told.Checksum, told.ChecksumResponse.Digest, told.ChecksumResponse.Suffix) == (
        "sha256:1",
        "sha512:2",
        b"end",
    )


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ({}, RemoteError, "no decision in policy response"),
        ({"decision": {"action": 9}}, RemoteError, "unknown action 9"),
        ({"request": {"HTTP": {"ChecksumRequest": {"Algo": 9}}}}, InvalidArgumentError, "checksum algorithm 9"),
    ],
)
async def test_policies_that_answer_nothing_usable_are_refused(
    session: Session, client: FakeSessionClient, answer: dict[str, Any], kind: type[SampanError], words: str
) -> None:
    image = SourceOp("docker-image://busybox:1")
    client.verdicts[image.identifier] = session_pb2.CheckPolicyResponse(**answer)
    with pytest.raises(kind, match=words):
        await session.check_policy(SourceState(image), None)


async def test_secrets_are_bounded_and_those_it_has_not_are_not_found(
    session: Session, client: FakeSessionClient
) -> None:
    client.secrets = {"token": b"\0s3cret", "large": bytes((500 << 10) + 1), "full": bytes(500 << 10)}
    assert await session.secret("token") == b"\0s3cret"
    assert len(await session.secret("full")) == 500 << 10
    with pytest.raises(NotFoundError, match="secret none: not found"):
        await session.secret("none")
    with pytest.raises(InvalidArgumentError, match="invalid secret size 512001"):
        await session.secret("large")


async def test_credentials_are_the_clients(session: Session, client: FakeSessionClient) -> None:
    client.logins = {"registry:5000": ("me", "pass"), "token.example": ("", "identity")}
    assert await session.credentials("registry:5000") == Credentials("me", "pass")
    assert await session.credentials("token.example") == Credentials("", "identity")
    assert await session.credentials("other") is None


async def test_agent_is_reached_through_a_socket(session: Session, client: FakeSessionClient, tmp_path: Path) -> None:
    client.agents = {"default"}
    await session.check_agent()
    with pytest.raises(NotFoundError, match="unset ssh forward key other"):
        await session.check_agent("other")
    path = tmp_path / ("long-" * 20) / "agent.sock"
    path.parent.mkdir()
    async with session.ssh_socket("", path, SocketOwner(os.getuid(), os.getgid(), 0o640)):
        assert path.stat().st_mode == stat.S_IFSOCK | 0o640
        directory = os.open(path.parent, os.O_PATH)
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/agent.sock")
        os.close(directory)
        writer.write(b"x" * 100_000)
        assert await reader.readexactly(100_000) == b"x" * 100_000
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
    assert not path.exists()


async def test_agent_that_is_not_forwarded_hangs_up(session: Session, tmp_path: Path) -> None:
    async with session.ssh_socket("none", tmp_path / "s", SocketOwner(os.getuid(), os.getgid())):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        assert await reader.read() == b""
        writer.close()


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_file_is_given_to_the_exporter_of_its_id(session: Session, client: FakeSessionClient) -> None:
    data = os.urandom(2_500_000)
    size = await session.send_file(chunks(data, b"", b"end"), {"containerimage.Digest": "sha256:1"}, "3")
    assert size == len(data) + 3
    assert client.files["3"] == data + b"end"
    assert client.words["3"] == {"containerimage.digest": "sha256:1"}


async def test_client_may_refuse_a_file(session: Session) -> None:
    with pytest.raises(AlreadyExistsError, match="target already exists"):
        await session.send_file(chunks(*[bytes(1 << 20)] * 20), exporter="refused")


async def test_directory_is_given_to_the_exporter_of_its_id(
    session: Session, client: FakeSessionClient, context: Path
) -> None:
    os.link(context / "small", context / "zlinked")
    (context / "sub").chmod(0o1777)
    assert await session.send_files(context, {"k": "v"}, "tree") == 3_000_005
    tree = client.trees["tree"]
    assert list(tree) == [b"link", b"small", b"sub", b"sub/big", b"zlinked"]
    assert tree[b"sub/big"][1] == (context / "sub/big").read_bytes()
    assert tree[b"link"][0].linkname == b"/etc/passwd"
    assert tree[b"zlinked"][0].linkname == b"small"
    assert tree[b"sub"][0].mode == 1 << 31 | 1 << 20 | 0o777
    assert client.words["tree"] == {"k": "v"}


async def test_upload_is_pulled_once(session: Session, client: FakeSessionClient) -> None:
    data = os.urandom(2_500_000)
    url = "http://buildkit-session/abc"
    client.uploads[url] = data
    got = hashlib.sha256()
    async for piece in session.pull_upload(url):
        got.update(piece)
    assert got.digest() == hashlib.sha256(data).digest()
    with pytest.raises(RemoteError, match="no http response"):
        await anext(session.pull_upload(url))


async def test_what_the_client_does_not_serve_is_refused_at_once(into: Path) -> None:
    ours, _ = FakeByteStream.pair()
    session = ClientSession(Connection(ours), SessionInfo("s"))
    with pytest.raises(UnimplementedError, match="no local sources enabled"):
        await session.sync(CONTEXT, into)
    with pytest.raises(UnimplementedError, match="FileSend"):
        await session.send_file(chunks(b""))
    with pytest.raises(UnimplementedError, match="FileSend"):
        await session.send_files(into)


async def test_methods_are_compared_without_case(session: Session) -> None:
    assert session.serves("/moby.filesync.v1.FileSend/DiffCopy")
    assert not session.serves("/moby.upload.v1.Upload/Pull")
