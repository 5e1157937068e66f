"""Images that a client pulls, loads, commits, tags, saves and removes, and what must be in them."""

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass

from tests.chaos.run.answers import Answer, Kind, is_line_lost
from tests.chaos.run.ledger import Verdict
from tests.chaos.run.operations.container import Container
from tests.chaos.run.operations.execs import run_to_its_end
from tests.chaos.run.operations.session import AbandonedError, Session


@dataclass(frozen=True, slots=True)
class Source:
    """An image that comes from outside: by a pull of ``reference``, or by a load of ``archive``."""

    reference: str
    mark: str  # what its file /mark holds
    archive: bytes = b""


def bring(session: Session, source: Source) -> None:
    """Pull or load it, see what is in it, and remove it again."""
    ways = session.ways
    name, _, word = source.reference.rpartition(":")
    way = session.rng.random()

    def call() -> Answer:
        if source.archive:
            return told_in_stream(ways.http("POST", "/images/load", raw=source.archive))
        if way < 0.5:
            return ways.docker("pull", "--quiet", source.reference)
        return told_in_stream(ways.http("POST", "/images/create", {"fromImage": name, "tag": word}))

    kind = "load" if source.archive else "pull"
    session.must(kind, call)
    _must_be_there(session, source.reference, kind)
    run_to_its_end(session, source.reference, "none", f'[ "$(cat /mark)" = {source.mark} ] || cat /mark;')
    if session.rng.random() < 0.3:
        save(session, source.reference)
    remove(session, source.reference)


def told_in_stream(answer: Answer) -> Answer:
    """Take an error for one that comes within the stream, whose status was sent long before."""
    for line in answer.output.splitlines() if answer.kind is Kind.DONE else ():
        if b'"error"' in line:
            text = str(json.loads(line)["error"])
            return Answer(Kind.BROKEN if is_line_lost(text) else Kind.REFUSED, answer.code, error=text)
    return answer


def save(session: Session, reference: str) -> None:
    """Save it: whatever arrives whole has every blob by its digest."""
    answer = session.must("save", lambda: session.ways.http("GET", f"/images/{reference}/get"))
    mark = session.disturbances.mark()
    try:
        with tarfile.open(fileobj=io.BytesIO(answer.output)) as archive:
            for member in archive:
                algorithm, _, digest = member.name.removeprefix("blobs/").partition("/")
                file = archive.extractfile(member) if algorithm == "sha256" and member.isfile() else None
                if file is not None and hashlib.sha256(file.read()).hexdigest() != digest:
                    session.fault(Verdict.WRONG, f"save {reference}: {member.name} is something else")
            if "manifest.json" not in archive.getnames():
                raise tarfile.ReadError("no manifest")
    except tarfile.ReadError as error:
        if not session.disturbances.touched(mark):
            session.fault(Verdict.WRONG, f"save {reference}: a whole answer, and {error}")


def commit(container: Container) -> None:
    """Commit a container; the image has what was acknowledged, and the container goes on."""
    session = container.session
    reference = f"{session.name}/commit:{session.rng.getrandbits(32):08x}"
    name, _, tag = reference.rpartition(":")
    query = {"container": container.name, "repo": name, "tag": tag}
    sure = tuple(container.journal.sure)
    session.must("commit", lambda: session.ways.http("POST", "/commit", query, {}))
    _must_be_there(session, reference, "commit")
    lines = " ".join(() if container.journal.path.startswith("/v/") else sure[-20:])
    run_to_its_end(
        session, reference, "none", f"for l in {lines}; do grep -q $l {container.journal.path} || echo lost $l; done;"
    )
    remove(session, reference)
    container.check()


def tag(session: Session, image: str) -> None:
    """Give an image one more name, and take it away."""
    name, word = f"{session.name}/tag", f"{session.rng.getrandbits(32):08x}"
    session.must("tag", lambda: session.ways.http("POST", f"/images/{image}/tag", {"repo": name, "tag": word}))
    _must_be_there(session, f"{name}:{word}", "tag")
    remove(session, f"{name}:{word}")


def remove(session: Session, reference: str) -> None:
    """Remove a name; it is gone."""
    ways = session.ways
    by_docker = session.rng.random() < 0.3

    def call() -> Answer:
        if by_docker:
            return ways.docker("rmi", "--force", reference)
        return ways.http("DELETE", f"/images/{reference}", {"force": 1})

    session.must("rmi", call, already=("No such image",))
    if session.read(f"/images/{reference}/json").kind is not Kind.REFUSED:
        session.fault(Verdict.LEAKED, f"image {reference} is there after its removal")


def _must_be_there(session: Session, reference: str, kind: str) -> None:
    answer = session.read(f"/images/{reference}/json")
    if answer.kind is Kind.REFUSED:
        session.fault(Verdict.LOST, f"image {reference}: {kind} was acknowledged, and inspect says: {answer}")
        raise AbandonedError


def archive_of_file(name: str, content: bytes) -> bytes:
    """Return a tar of one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def content_of_file(archive: bytes) -> bytes | None:
    """Return what the first file of a tar holds; None if there is none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
            member = opened.next()
            file = opened.extractfile(member) if member else None
            return file.read() if file else None
    except tarfile.ReadError:
        return None
