"""The client of a warm start: hands the command to a process that has imported what it needs, and stands for it.

Signals that it gets are sent on, Ctrl-Z stops both, and it ends as the command has ended. If it is killed, the kernel
kills the command. It imports neither ``socket`` nor ``signal`` but the C modules that they are made of: their enums
take as long as the interpreter itself needs to start. Until the other side has begun, whatever is amiss makes
``hand_over`` return, and the command runs in this process.
"""

import _signal  # type: ignore[import-not-found]  # typeshed has no stubs for it
import _socket
import os
import sys
from posix import environ

from sampan_cli.warm.request import (
    BEGUN,
    EXITED,
    GREETING,
    HIGHEST_DESCRIPTOR,
    KILLED,
    MAX_DESCRIPTORS,
    MAX_REQUEST_BYTES,
    OWN_DESCRIPTORS,
    SOCKET,
    Request,
    code_of,
    is_obeyed_at_start,
)

# What is asked often, or by scripts. Commands that ask something, or that start and stop engines, are not in here.
_COMMANDS = frozenset(
    (
        *(
            "run",
            "exec",
            "create",
            "start",
            "stop",
            "restart",
            "kill",
            "pause",
            "unpause",
            "wait",
            "logs",
            "top",
            "port",
        ),
        *("diff", "rename", "update", "rm", "ps", "inspect", "images", "pull", "push", "tag", "history", "rmi", "info"),
        *("version", "status", "events", "stats", "save", "export", "load", "import", "cp", "commit"),
        "attach",
    )
)
_GROUPS = frozenset(("container", "image", "network", "volume", "system"))
_OF_GROUPS = _COMMANDS | {"ls", "list", "connect", "disconnect", "df", "check"}
# These read a terminal, if they are told to; `attach` does anyway.
_READERS = frozenset(("run", "exec", "start"))

# With another option before the command it is about an engine elsewhere perhaps, for which ssh may ask something.
_ROOTS = frozenset(("--data-root", "--run-root"))
_DEFAULT_RUN_ROOT = "/run/sampan"

# Says that a command shall run in its own process.
DIRECT = b"SAMPAN_DIRECT"

# A warm parent that is not there yet imports for a fifth of a second; on a busy machine it takes its time.
_GREETING_S = 10.0

# Not: what cannot be caught, what a fault in this process raises, and what its children and pipes do.
_KEPT = frozenset(
    (
        *(_signal.SIGKILL, _signal.SIGSTOP, _signal.SIGCHLD, _signal.SIGPIPE, _signal.SIGXFSZ, _signal.SIGXCPU),
        *(_signal.SIGSEGV, _signal.SIGBUS, _signal.SIGFPE, _signal.SIGILL, _signal.SIGABRT, _signal.SIGTRAP),
        _signal.SIGSYS,
    )
)
_STOPS = frozenset((_signal.SIGTSTP, _signal.SIGTTIN, _signal.SIGTTOU))


def hand_over(arguments: "list[str]") -> None:
    """Have the command line ``arguments`` run by a warm process and exit as it does; return if it is to run here."""
    run_root, words = _look_at(arguments)
    if not words or _must_run_here() or _may_lead_elsewhere(bool(run_root)):
        return
    # As in any program: Ctrl-C ends it. Ctrl-Z waits until it is known who has to stop.
    stops: list[int] = []
    before = {number: _signal.getsignal(number) for number in (_signal.SIGINT, *_STOPS)}
    for number, handler in before.items():
        if handler is not _signal.SIG_IGN:
            _signal.signal(number, _signal.SIG_DFL if number == _signal.SIGINT else lambda n, _: stops.append(n))
    try:
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            request = _request(arguments)
            descriptors = [here, 0, 1, 2, *request.descriptors]
            root = run_root or os.environ.get("SAMPAN_RUN_ROOT") or _DEFAULT_RUN_ROOT
            connection, pidfd = _begin(f"{root}/{SOCKET}", request, descriptors)
        finally:
            os.close(here)
    except (OSError, ValueError):
        for number, handler in before.items():
            _signal.signal(number, handler)
        for number in stops:
            os.kill(os.getpid(), number)
        return
    _Stand(pidfd, reads=_may_read(words)).until_end(connection, stops)


def _look_at(arguments: "list[str]") -> "tuple[str, list[str]]":
    """Return the run root that is named, if one is, and the command's words; none of what is not to be handed over.

    Nothing is decided for good: the command line is parsed by who runs it.
    """
    root = ""
    position = 0
    while position < len(arguments) and arguments[position].startswith("-"):
        name, equals, value = arguments[position].partition("=")
        if name not in _ROOTS:
            return "", []
        if not equals:
            position += 1
            value = arguments[position] if position < len(arguments) else ""
        if name == "--run-root":
            root = value
        position += 1
    words = arguments[position:]
    known = _COMMANDS
    if words and words[0] in _GROUPS:
        words, known = words[1:], _OF_GROUPS
    return (root, words) if words and words[0] in known else ("", [])


def _may_read(words: "list[str]") -> bool:
    """Say whether the command may read from the terminal that is its input."""
    return os.isatty(0) and (words[0] == "attach" or (words[0] in _READERS and any(map(_may_ask, words[1:]))))


def _may_ask(word: str) -> bool:
    """Say whether a word could be -i, -t or -a, alone or among others: of the command or of what it runs."""
    if word.startswith("--"):
        return word.startswith(("--interactive", "--tty", "--attach"))
    return word.startswith("-") and any(letter in word for letter in "ita")


def _must_run_here() -> bool:
    if DIRECT in environ:
        return True
    if any(map(is_obeyed_at_start, environ)):
        return True
    return any(stream is None for stream in (sys.stdin, sys.stdout, sys.stderr)) or any(map(_is_behind, range(3)))


def _may_lead_elsewhere(says_root: bool) -> bool:
    """Say whether variables or the context in use may lead to another engine than that of the roots."""
    if os.environ.get("DOCKER_CONTEXT"):
        return True
    if says_root or os.environ.get("SAMPAN_RUN_ROOT"):
        return False
    directory = os.environ.get("DOCKER_CONFIG") or f"{os.environ.get('HOME', '')}/.docker"
    if os.environ.get("SAMPAN_HOST") or not directory.startswith("/"):
        return True
    try:
        with open(f"{directory}/config.json", "rb") as file:
            return b"currentContext" in file.read()
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _is_behind(descriptor: int) -> bool:
    """Say whether it is our terminal, and others are in its foreground: the kernel may stop who uses it from here."""
    try:
        return os.isatty(descriptor) and os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # a terminal that is not ours stops nobody
        return False


def _request(arguments: "list[str]") -> Request:
    """Return the request. ValueError if there are more descriptors than can be passed."""
    others: list[int] = []
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        try:
            if number >= OWN_DESCRIPTORS - 1 and os.get_inheritable(number):  # not our own
                others.append(number)
        except OSError:  # that of the directory
            continue
    if len(others) > MAX_DESCRIPTORS or max(others, default=0) > HIGHEST_DESCRIPTOR:
        raise ValueError("too many descriptors")
    encodings = [
        os.fsencode(each)
        for stream in (sys.stdin, sys.stdout, sys.stderr)
        for each in (stream.encoding, stream.errors or "strict")
    ]
    code = code_of(sys.executable, sys.hexversion, sys.getfilesystemencoding(), os.path.dirname(__file__))
    environment = [name + b"=" + value for name, value in environ.items()]
    return Request(code, encodings, others, [os.fsencode(each) for each in arguments], environment)


def _begin(path: str, request: Request, descriptors: "list[int]") -> "tuple[_socket.socket, int]":
    """Return the connection and the pidfd of the process that has begun to run the command.

    Raises:
        OSError: nothing has begun.
    """
    body = request.encode()
    if len(body) > MAX_REQUEST_BYTES:
        raise ValueError("a command line that is too long")
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)  # ends with its last user
    try:
        return connection, _hand(connection, path, body, descriptors)
    except BaseException:
        connection.close()
        raise


def _hand(connection: "_socket.socket", path: str, body: bytes, descriptors: "list[int]") -> int:
    """Say what is to be run; return the pidfd. OSError: nothing has begun."""
    connection.settimeout(_GREETING_S)
    connection.connect(path)
    if connection.recv(1) != GREETING:
        raise OSError("not taken")
    connection.settimeout(None)
    rights = b"".join(number.to_bytes(4, sys.byteorder) for number in descriptors)
    sent = connection.sendmsg([body], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])
    connection.sendall(body[sent:])
    answer, ancillary, _, _ = connection.recvmsg(1, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    if answer != BEGUN or not ancillary:
        raise OSError("declined")
    return int.from_bytes(ancillary[0][2][:4], sys.byteorder)


class _Stand:
    """Is the command for everybody else until it ends, and ends likewise."""

    def __init__(self, pidfd: int, *, reads: bool) -> None:
        """``reads``: the command reads from the terminal, which nobody may who is not in its foreground."""
        self._pidfd = pidfd
        self._reads = reads
        self._stopping = False
        self._continued = False

    def until_end(self, connection: "_socket.socket", came: "list[int]") -> None:
        """Stay until the command has ended, and exit. ``came``: signals that nobody has acted on yet."""
        for number in _signal.valid_signals():
            if number not in _KEPT and _signal.getsignal(number) is not _signal.SIG_IGN:
                _signal.signal(number, self._on_signal)
        for number in came:
            os.kill(os.getpid(), number)
        message = connection.recv(2)
        if message[:1] == EXITED:
            os._exit(message[1])
        if message[:1] == KILLED:
            _die_of(message[1])
        os.write(2, b"sampan: the process that ran this command was killed\n")
        os._exit(128 + _signal.SIGKILL)

    def _on_signal(self, number: int, _: object) -> None:
        if number == _signal.SIGCONT:
            self._continued = True
            if self._stopping:
                return
            if self._reads and _is_behind(0):
                self._stop(_signal.SIGTTIN)
                return
        elif number in _STOPS and not _catches(self._pidfd, number):
            self._stop(number)
            return
        self._send(number)

    def _stop(self, number: int) -> None:
        """Stop the command and then this process, for whoever waits for it to see. Both go on with SIGCONT.

        One that reads goes on in the foreground alone. Where nobody could continue it, the kernel does not stop it.
        """
        self._stopping = True
        self._send(_signal.SIGSTOP)
        while True:
            self._continued = False
            handler = _signal.signal(number, _signal.SIG_DFL)
            os.kill(os.getpid(), number)  # returns when we are told to go on
            _signal.signal(number, handler)
            if not (self._continued and self._reads and _is_behind(0)):
                break
            number = _signal.SIGTTIN
        self._stopping = False
        self._send(_signal.SIGCONT)

    def _send(self, number: int) -> None:
        try:
            _signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:  # it has ended, which is what we are told next
            return


def _catches(pidfd: int, number: int) -> bool:
    """Say whether the command handles a signal itself."""
    with open(f"/proc/self/fdinfo/{pidfd}") as lines:
        pid = next((line.split()[1] for line in lines if line.startswith("Pid:")), "-1")
    try:
        with open(f"/proc/{pid}/status") as lines:
            caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    except OSError:
        return False
    return bool(int(caught, 16) >> (number - 1) & 1)


def _die_of(number: int) -> None:
    if number != _signal.SIGKILL:
        _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)
