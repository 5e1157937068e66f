"""Images that a client builds, by all ways there are, and what must be in them; builds that fail, or are broken off.

A build that a kill has broken off says so, and is made again. One that says that it has succeeded has, and one that is
over has left no process.
"""

import io
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests.chaos.run.answers import DEADLINE_S, Answer, Kind, is_line_lost
from tests.chaos.run.disturbances import STEP
from tests.chaos.run.ledger import Verdict
from tests.chaos.run.operations import images
from tests.chaos.run.operations.execs import run_to_its_end
from tests.chaos.run.operations.session import AbandonedError, Call, Session

_SHARED: Final = 5  # contexts that all clients have in common: their builds share work and results
_FILES: Final = 20

# How a build says that one of the processes that work for it was killed, beside the ways in which all calls do.
_HURT: Final = (
    "was killed by SIGKILL",
    "was killed by signal 9",
    "ended with the one that it was forked from",
    "the builder stops",
)
_STEP_FAILED: Final = ("did not complete successfully", "returned a non-zero code: 137")

_DOCKERFILE: Final = """\
FROM {base} AS one
COPY files /files
RUN --mount=type=cache,id={cache},target=/cache echo {token} >> /cache/lines && cat /files/* > /one
FROM {base}
RUN {pause}dd if=/dev/zero of=/zeros bs=4096 count=40 2>/dev/null && echo {token} > /two
COPY --from=one /one /one
RUN --network={network} --mount=type=bind,from=one,target=/from cmp /one /from/one && {last}
"""


@dataclass(frozen=True, slots=True)
class Context:
    """What is built."""

    dockerfile: str
    files: Mapping[str, bytes]
    token: str  # in the file /two
    code: int = 0  # what its last step exits with

    def packed(self) -> bytes:
        """Return it as a tar."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for name, content in {"Dockerfile": self.dockerfile.encode(), **self.files}.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return buffer.getvalue()

    def write(self, directory: Path) -> None:
        """Write it below ``directory``."""
        for name, content in {"Dockerfile": self.dockerfile.encode(), **self.files}.items():
            path = directory / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)


def build(session: Session, base: str) -> None:
    """Build an image, see what is in it, and remove it again."""
    context = _context(session, base)
    reference = f"{session.name}/build:{session.rng.getrandbits(32):08x}"
    session.must("build", _way(session, context, reference))
    answer = session.read(f"/images/{reference}/json")
    if answer.kind is Kind.REFUSED:
        session.fault(Verdict.LOST, f"image {reference}: build was acknowledged, and inspect says: {answer}")
        raise AbandonedError
    contents = b"".join(context.files[name] for name in sorted(context.files)).decode()
    script = f'[ "$(cat /two)" = {context.token} ] || cat /two; [ "$(cat /one)" = "{contents.strip()}" ] || cat /one;'
    run_to_its_end(session, reference, "none", script)
    images.remove(session, reference)


def fail(session: Session, base: str) -> None:
    """Build what cannot be built: the answer is the code that its last step exits with."""
    context = _context(session, base, code=session.rng.randrange(2, 100))
    reference = f"{session.name}/failed:1"
    answer = session.until_definite("failing build", _way(session, context, reference))
    said = f"exit code: {context.code}" in answer.error or f"non-zero code: {context.code}" in answer.error
    if answer.kind is not Kind.REFUSED or not said:
        session.fault(Verdict.WRONG, f"a build that exits with {context.code} ended so: {answer}")
    if session.read(f"/images/{reference}/json").kind is not Kind.REFUSED:
        session.fault(Verdict.WRONG, f"a build that fails has made {reference}")
        images.remove(session, reference)


def cancel(session: Session, base: str) -> None:
    """Break a build off while a step of it runs. When its client is told, no process of it is left."""
    seconds = 10**9 + session.rng.getrandbits(28)
    name = session.token()
    last = f"sleep {seconds} & sleep {seconds}"
    context = replace(_context(session, base), dockerfile=f"FROM {base}\nRUN {last}\n", files={})
    answers: list[Answer] = []
    query = {"buildid": name, "t": f"{session.name}/cancelled:1"}
    mark, strikes = session.disturbances.mark(), session.disturbances.struck(STEP)

    def ask() -> None:
        try:
            answers.append(_told(session, strikes, session.ways.http("POST", "/build", query, raw=context.packed())))
        except TimeoutError as error:
            session.fault(Verdict.HUNG, f"cancelled build: no answer: {error}")

    session.ledger.begin("cancelled build")
    building = threading.Thread(target=ask, name=f"{session.name} builds")
    building.start()
    end = time.monotonic() + DEADLINE_S
    while building.is_alive() and not _sleeps(seconds) and time.monotonic() < end:
        time.sleep(0.02)
    while building.is_alive() and time.monotonic() < end:  # whoever restarts does not know of it
        session.read("/_ping")
        session.ways.http("POST", "/build/cancel", {"id": name})
        building.join(1.0)
    building.join()
    left = _sleeps(seconds)
    for answer in answers:
        if answer.kind is Kind.DONE:
            session.fault(Verdict.WRONG, f"a build that was cancelled has succeeded: {answer}")
        elif answer.kind is Kind.BROKEN:
            session.ledger.broke("cancelled build")
        elif "context canceled" not in answer.error:
            session.fault(Verdict.WRONG, f"a build that was cancelled says: {answer}")
    if left and not session.disturbances.touched(mark):
        session.fault(Verdict.LEAKED, f"a cancelled build was told to be over, and its processes {left} run")
    while _sleeps(seconds):
        if time.monotonic() > end:
            session.fault(Verdict.LEAKED, f"processes {_sleeps(seconds)} of a cancelled build run for ever")
            return
        time.sleep(0.05)


def prune(session: Session) -> None:
    """Remove what the build cache can do without."""
    if session.rng.random() < 0.3:
        session.must("build prune", lambda: session.ways.sampan("builder", "prune", "--force"))
        return
    query = {"all": 1} if session.rng.random() < 0.5 else {}
    session.must("build prune", lambda: session.ways.http("POST", "/build/prune", query))


def _context(session: Session, base: str, code: int = 0) -> Context:
    rng = session.rng
    shared = rng.random() < 0.3 and not code
    token = f"shared-{rng.randrange(_SHARED)}" if shared else session.token()
    pause = "" if shared else f"sleep 0.{rng.randrange(5)}; "
    text = _DOCKERFILE.format(
        base=base,
        token=token,
        cache="all" if shared else session.name,
        pause=pause,
        network="default" if rng.random() < 0.3 else "none",
        last=f"exit {code}" if code else "true",
    )
    return Context(
        text, {f"files/{number:02}": f"{token} {number}\n".encode() for number in range(_FILES)}, token, code
    )


def _way(session: Session, context: Context, reference: str) -> Call:
    ways, choice = session.ways, session.rng.random()
    no_cache = session.rng.random() < 0.1

    def by_http() -> Answer:
        query = {"t": reference, **({"nocache": 1} if no_cache else {})}
        return ways.http("POST", "/build", query, raw=context.packed())

    def by_directory() -> Answer:
        with tempfile.TemporaryDirectory(prefix="sp-context-") as directory:
            context.write(Path(directory))
            return ways.sampan("build", "--quiet", "--tag", reference, directory)

    def call() -> Answer:
        strikes = session.disturbances.struck(STEP)
        if choice < 0.4:
            answer = by_http()
        elif choice < 0.6:
            answer = ways.docker("build", "--quiet", "--tag", reference, "-", input=context.packed())
        elif choice < 0.8:
            answer = ways.buildkit(reference, context.packed())
        else:
            answer = by_directory()
        return _told(session, strikes, answer)

    return call


def _told(session: Session, strikes: int, answer: Answer) -> Answer:
    """Return what a build's answer means: an error may come within the stream, and say that a kill is behind it.

    ``strikes``: how many steps had been hurt before.
    """
    answer = images.told_in_stream(answer)
    if answer.kind is not Kind.REFUSED or answer.client_killed:
        return answer
    hurt = any(words in answer.error for words in _HURT) or is_line_lost(answer.error)
    struck = session.disturbances.struck(STEP) > strikes
    if hurt or (struck and any(words in answer.error for words in _STEP_FAILED)):
        return replace(answer, kind=Kind.BROKEN)
    return answer


def _sleeps(seconds: int) -> list[int]:
    """Return pids of the processes that sleep for so long."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == f"sleep\0{seconds}\0".encode():
                found.append(int(path.parent.name))
        except OSError:
            continue  # it has ended
    return found
