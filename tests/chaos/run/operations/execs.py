"""Programs that a client runs and whose output and exit code it knows beforehand: execs, and containers that end."""

import json
import time
from dataclasses import dataclass, replace

from tests.chaos.run.answers import DEADLINE_S, Answer, Kind, demultiplex
from tests.chaos.run.disturbances import Mark
from tests.chaos.run.ledger import Verdict
from tests.chaos.run.operations.container import KILLED, UNKNOWN, Container
from tests.chaos.run.operations.session import AbandonedError, Session


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a program prints, and what it exits with: not what a client ends with when it is the client that fails."""

    output: str
    code: int

    @classmethod
    def of(cls, session: Session) -> "Prediction":
        """Make one that was never there before."""
        return cls(session.token(), session.rng.randrange(2, 100))


def run_exec(container: Container) -> None:
    """Append a line to the container's journal, print it, and exit with a code."""
    session = container.session
    predicted = Prediction.of(session)
    work = f"sleep 0.0{session.rng.randrange(10)}; " if session.rng.random() < 0.3 else ""
    line = predicted.output
    # What ended with another code has not come to its last line.
    script = f"{work}echo {line}; echo {line} >> {container.journal.path}; exit {predicted.code}"
    container.journal.maybe.add(line)
    struck = session.disturbances.struck(container.id)
    mark = session.disturbances.mark()
    way = session.rng.random()
    if way < 0.6:
        answer = _by_http(container, script, predicted, detached=way < 0.15)
    else:
        program = session.ways.sampan if session.rng.random() < 0.15 else session.ways.docker
        answer = session.once("exec", lambda: program("exec", container.name, "sh", "-c", script))
    if session.disturbances.struck(container.id) != struck:
        return  # its program, or what watched it, was killed: see Container.after_strike
    if answer.kind is Kind.BROKEN and answer.code == KILLED:
        container.journal.maybe.discard(line)
    if is_whole(session, f"exec in {container.name}", answer, mark, predicted):
        container.journal.sure.append(line)
        container.journal.maybe.discard(line)


def is_whole(session: Session, what: str, answer: Answer, mark: Mark, predicted: Prediction) -> bool:
    """Hold an answer to what was predicted; false for one that was broken off, which is no fault."""
    if answer.kind is Kind.BROKEN:
        return False
    whole = f"{predicted.output}\n"
    if answer.code == predicted.code and answer.text == whole:
        return True
    if (
        answer.code in (0, KILLED, UNKNOWN, predicted.code)
        and session.disturbances.api_touched(mark)
        and whole.startswith(answer.text)
    ):
        # The end of the line to a daemon that was killed looks like the end of the output: no client can tell. If
        # runtimed was stopped as well, the program may never have run.
        session.ledger.broke(what.partition(" ")[0])
        return False
    session.fault(Verdict.WRONG, f"{what}: {answer} instead of {predicted}")
    return False


def _by_http(container: Container, script: str, predicted: Prediction, *, detached: bool) -> Answer:
    """Create, start, read, and ask for the exit code, which is known even if the line broke.

    Of one without a client only the exit code can be asked for.
    """
    session, http = container.session, container.session.ways.http
    body = {"AttachStdout": True, "AttachStderr": True, "Cmd": ["sh", "-c", script]}
    created = session.once("exec", lambda: http("POST", f"/containers/{container.name}/exec", body=body))
    if created.kind is not Kind.DONE:
        return created
    exec_id = created.json()["Id"]
    mark, struck = session.disturbances.mark(), session.disturbances.struck(container.id)
    answer = session.once(
        "exec start", lambda: http("POST", f"/exec/{exec_id}/start", body={"Detach": detached, "Tty": False})
    )
    if detached and answer.kind is Kind.DONE:
        answer = replace(answer, output=_framed(f"{predicted.output}\n"))  # nobody hears it
    if answer.kind is Kind.REFUSED:
        return answer
    output, word = demultiplex(answer.output)
    if word and not session.disturbances.touched(mark):
        session.fault(Verdict.WRONG, f"exec: broken off though nothing was killed: {answer} {word}")
    code = _exit_code(session, exec_id)
    broken = answer.kind is Kind.BROKEN or bool(word)
    # With dockerapi killed as well nobody says that the line broke: see ``is_whole``.
    broken = broken or (not detached and code in (None, KILLED, UNKNOWN) and session.disturbances.api_touched(mark))
    if broken and code in (KILLED, UNKNOWN) and session.disturbances.touched(mark):
        # It was on its way when runtimed went, and never ran: its line must not be there.
        return Answer(Kind.BROKEN, KILLED)
    if code not in (None, predicted.code) and session.disturbances.struck(container.id) == struck:
        session.fault(
            Verdict.WRONG, f"exec {exec_id[:12]} in {container.name} ended with {code} instead of {predicted}"
        )
    if broken:
        return Answer(Kind.BROKEN, error=word)
    return Answer(Kind.DONE, -1 if code is None else code, output)


def _framed(text: str) -> bytes:
    return bytes((1, 0, 0, 0)) + len(text).to_bytes(4) + text.encode()


def _exit_code(session: Session, exec_id: str) -> int | None:
    """Return an exec's exit code, once it does not run any more; None if it never started."""
    end = time.monotonic() + DEADLINE_S
    while True:
        answer = session.read(f"/exec/{exec_id}/json")
        if answer.kind is Kind.REFUSED:
            return None  # gone with its container
        shown = json.loads(answer.output)
        if not shown["Running"]:
            code: int | None = shown["ExitCode"]
            return code
        if time.monotonic() > end:
            session.fault(Verdict.HUNG, f"exec {exec_id[:12]} is said to run for ever")
            raise AbandonedError
        time.sleep(0.05)


def run_to_its_end(session: Session, image: str, network: str, command: str = "") -> bool:
    """``run --rm``: output and exit code are right, and the container is gone. Return whether the answer was whole.

    ``command`` comes first in its script, and is to print nothing if all is well.
    """
    predicted, name = Prediction.of(session), f"{session.name}-run-{session.rng.getrandbits(32):08x}"
    program = session.ways.sampan if session.rng.random() < 0.1 else session.ways.docker
    mark = session.disturbances.mark()
    script = f"{command} echo {predicted.output}; exit {predicted.code}"
    words = ("run", "--rm", "--name", name, "--network", network, image, "sh", "-c", script)
    answer = session.once("run", lambda: program(*words))
    if session.disturbances.any_struck(mark) and answer.code in (0, 1, 125, 126, 127, KILLED, UNKNOWN):
        answer = Answer(Kind.BROKEN)
    whole = is_whole(session, f"run {name}", answer, mark, predicted)
    if whole:
        _gone_by_itself(session, name)
        return True
    # It may not have started, in which case it stays, or be about to end.
    path = f"/containers/{name}"
    removed = session.until_definite("rm", lambda: session.ways.http("DELETE", path, {"force": 1, "v": 1}))
    if removed.kind is Kind.REFUSED and removed.code not in (404, 409):  # 409: it is being removed already
        session.fault(Verdict.WRONG, f"run {name}: rm was refused: {removed}")
    if removed.code == 404:
        # Removed by itself, or not made yet: a request goes on for a while after the line to its client is lost.
        session.unanswered.append(name)
    _gone_by_itself(session, name)
    return False


def _gone_by_itself(session: Session, name: str) -> None:
    """A container with --rm whose end was told goes; how soon is not said."""
    end = time.monotonic() + DEADLINE_S
    while session.read(f"/containers/{name}/json").kind is not Kind.REFUSED:
        if time.monotonic() > end:
            session.fault(Verdict.LEAKED, f"run --rm {name}: it is still there")
            return
        time.sleep(0.05)
