"""What an OCI runtime says when a process cannot be started, in the words that Docker's clients match."""

import re
from pathlib import Path
from typing import Final

from sampan.build.step import NOT_EXECUTED, NOT_RUN
from sampan.errors import CommandNotExecutableError, CommandNotFoundError, NotStartedError, StartError

_CREATE: Final = "failed to create task for container: failed to create shim task: OCI runtime create failed: "
_EXEC: Final = "OCI runtime exec failed: "

# crun: executable file `nope` not found in $PATH: No such file or directory
_CRUN_NOT_FOUND: Final = re.compile(r"executable file [`'](?P<name>.+)['`] not found(?: in \$PATH)?(?:: .*)?")
# crun: open executable: Permission denied  /  exec /x: Permission denied  /  of a directory: Operation not permitted
_CRUN_DENIED: Final = re.compile(
    r"(?:open executable|exec(?:utable)?[ :].*): Permission denied|open executable: Operation not permitted",
    re.IGNORECASE,
)
# crun: chdir `/nope`: No such file or directory
_CRUN_CHDIR: Final = re.compile(r"chdir [`'](?P<directory>.+)['`]: (?P<why>.+)")

# What Docker adds to ENOTDIR, which is most often a file that is mounted on a directory or the other way round.
_NOT_A_DIRECTORY: Final = "not a directory"
_MOUNT_HINT: Final = (
    ": Are you trying to mount a directory onto a file (or vice-versa)? "
    "Check if the specified host path exists and is the expected type"
)

# runc that has crashed, most often for want of threads: the reason comes first, then pages of registers and stacks.
_CRASHED: Final = re.compile(r"\n\s*(?:SIG[A-Z]+: |goroutine \d|runtime stack:)")

_NOT_FOUND: Final = ("executable file not found", "no such file or directory", "not found in $path")
_OF_THE_COMMAND: Final = ("exec: ", "chdir to cwd ")
_NOT_EXECUTABLE: Final = ("permission denied", "is a directory", "exec format error")

# crun's words for an errno at the end, which are the C library's; Go's, which clients look
# for, begin with a small letter.
_ERRNO_WORDS: Final = re.compile(r"(?<=: )[A-Z](?=[a-z ]+$)")


def create_error(message: str, command: str) -> StartError:
    """Return the error for a container whose ``command`` the runtime did not start, saying ``message``."""
    text = _ERRNO_WORDS.sub(lambda letter: letter[0].lower(), _plain(message, command))
    if not text.startswith(("runc create failed:", "crun:")):
        text = f"runc create failed: {text}"
    hint = _MOUNT_HINT if _NOT_A_DIRECTORY in text.lower() else ""
    return _classify_create(text)(f"{_CREATE}{text}: unknown{hint}")


def prepare_error(error: OSError, place: Path) -> StartError:
    """Return the error for a container that could not be prepared: in Go's words, which scripts look for.

    ``place`` is named where the system does not say what it was about, as with a write to a disk that is full.
    """
    why = (error.strerror or str(error)).lower()
    return StartError(f"cannot prepare the container: {error.filename or place}: {why}")


def exec_error(message: str, command: str) -> StartError:
    """Return the error for an exec whose ``command`` the runtime did not start, saying ``message``."""
    text = _plain(message, command)
    if not text.startswith("exec failed:"):
        text = f"exec failed: {text}"
    return _classify(text)(f"{_EXEC}{text}: unknown")


def step_error(message: str, command: str, *, further: bool = False) -> StartError:
    """Return the error for a step of a build whose ``command`` the runtime did not start, saying ``message``.

    It is a ``NotStartedError``, or one of those that say why of the command.

    ``further``: it was to run beside the step's first process.
    """
    text = _plain(message, command)
    beginnings = NOT_EXECUTED if further else NOT_RUN
    if not text.startswith(beginnings):
        text = f"{beginnings[0]} {text}"
    kind = _classify(text)
    return (NotStartedError if kind is StartError else kind)(text)


def exit_code(error: StartError) -> int:
    """Return what the exit code of a process counts as that did not start for ``error``."""
    if isinstance(error, CommandNotFoundError) or _MOUNT_HINT in str(error):
        return 127
    if isinstance(error, CommandNotExecutableError):
        return 126
    return 128


def _plain(message: str, command: str) -> str:
    """One line, and crun's phrases for the common cases replaced by runc's, which are Docker's."""
    text = " ".join(_CRASHED.split(message.strip(), maxsplit=1)[0].split())
    if match := _CRUN_NOT_FOUND.search(text):
        name = match["name"] or command
        # Of a path, runc says what stat(2) says; $PATH is not asked for one.
        why = f"stat {name}: no such file or directory" if "/" in name else "executable file not found in $PATH"
        return f'unable to start container process: exec: "{name}": {why}'
    if _CRUN_DENIED.search(text):
        return f'unable to start container process: exec: "{command}": permission denied'
    if match := _CRUN_CHDIR.search(text):
        why = match["why"][:1].lower() + match["why"][1:]
        return (
            f'unable to start container process: chdir to cwd ("{match["directory"]}") set in config.json failed: {why}'
        )
    return text


def _classify_create(text: str) -> type[StartError]:
    """Return the kind as Docker tells it for a container: by an errno, whatever that is said of."""
    lower = text.lower()
    if _NOT_A_DIRECTORY in lower:
        return StartError  # clients exit with 125, although the state has 127
    if any(phrase in lower for phrase in ("permission denied", "is a directory")):
        return CommandNotExecutableError
    if any(phrase in lower for phrase in _NOT_FOUND):
        return CommandNotFoundError
    return _classify(text)


def _classify(text: str) -> type[StartError]:
    lower = text.lower()
    # Only what is said of the command or its directory: "no such file or directory" of a mount's source is neither.
    subject = next((lower.rpartition(word)[2] for word in _OF_THE_COMMAND if word in lower), "")
    if any(phrase in subject for phrase in _NOT_FOUND):
        return CommandNotFoundError
    if any(phrase in subject for phrase in _NOT_EXECUTABLE):
        return CommandNotExecutableError
    return StartError
