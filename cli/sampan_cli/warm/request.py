"""What a command line hands over to a process that begins warm, and how both sides write it.

The server greets; the client sends its request with its descriptors; the server answers that it has begun, with a
descriptor of the process (pidfd), or lets the connection end, and nothing has happened then. The last message says how
the command ended. Imported by the thin client, so it imports nothing.
"""

SOCKET = "cli.sock"  # below the run root

GREETING = b"H"
BEGUN = b"S"
EXITED = b"E"  # and the exit code, a byte
KILLED = b"K"  # and the signal, a byte

LENGTH_BYTES = 4  # before a request, big-endian
MAX_REQUEST_BYTES = 8 << 20  # execve(2) takes a fourth of it

# The directory and three standard descriptors, and what else was open: a shell's process substitutions, for example.
OWN_DESCRIPTORS = 4
MAX_DESCRIPTORS = 32
HIGHEST_DESCRIPTOR = 511

_STREAMS = 3

# Variables that an interpreter, its libraries or its allocator obey at their start: one that runs already cannot.
_AT_START = (b"PYTHON", b"LD_", b"MALLOC_", b"GLIBC_", b"PROTOCOL_BUFFERS_")
_HARMLESS = frozenset(
    (b"PYTHONDONTWRITEBYTECODE", b"PYTHONNOUSERSITE", b"PYTHONSAFEPATH", b"PYTHONUNBUFFERED"),  # the last is obeyed
)


class Request:
    """A command to run. Everything in it is the client's word; who the client is the kernel says."""

    __slots__ = ("arguments", "code", "descriptors", "encodings", "environment")

    def __init__(
        self,
        code: bytes,
        encodings: list[bytes],
        descriptors: list[int],
        arguments: list[bytes],
        environment: list[bytes],
    ) -> None:
        """``code``: what interpreter and files the client runs; ``encodings``: a stream's and its errors', thrice.

        ``descriptors``: the numbers of those that are passed beyond the first four. ``environment``: as in environ(7).
        """
        self.code = code
        self.encodings = encodings
        self.descriptors = descriptors
        self.arguments = arguments
        self.environment = environment

    def encode(self) -> bytes:
        """Return what is sent after the greeting."""
        numbers = b",".join(b"%d" % number for number in self.descriptors)
        head = [self.code, *self.encodings, numbers, b"%d" % len(self.arguments)]
        # No word can have a NUL in it: they came, and would go, through execve(2).
        body = b"\0".join([*head, *self.arguments, *self.environment])
        return len(body).to_bytes(LENGTH_BYTES, "big") + body

    @classmethod
    def decode(cls, body: bytes) -> "Request":
        """Return the request in ``body``, which has no length in front. ValueError if there is none."""
        code, *rest = body.split(b"\0")
        pairs = 2 * _STREAMS
        encodings, rest = rest[:pairs], rest[pairs:]
        if len(rest) < 2:
            raise ValueError("a request that is cut off")
        numbers, count, *words = rest
        arguments = int(count)
        if not 0 <= arguments <= len(words):
            raise ValueError(f"{arguments} arguments of {len(words)} words")
        descriptors = [int(number) for number in numbers.split(b",") if number]
        if any(not OWN_DESCRIPTORS - 1 <= number <= HIGHEST_DESCRIPTOR for number in descriptors):
            raise ValueError(f"descriptors that cannot be: {descriptors}")
        return cls(code, encodings, descriptors, words[:arguments], words[arguments:])


def code_of(executable: str, version: int, encoding: str, directory: str) -> bytes:
    """Name the code that a process runs: its interpreter's directory and version, and where this package is.

    ``encoding``: of the names of files; it is chosen when an interpreter starts.
    """
    return f"{executable.rpartition('/')[0]}\n{version:x}\n{encoding}\n{directory}".encode(errors="surrogateescape")


def is_obeyed_at_start(variable: bytes) -> bool:
    """Say whether a variable says something to an interpreter that begins."""
    return variable.startswith(_AT_START) and variable not in _HARMLESS
