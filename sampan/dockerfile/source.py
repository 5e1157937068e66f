"""A Dockerfile's text as logical lines: parser directives, continued lines joined, here-documents taken out.

Reference: the Dockerfile reference, "Format", "Parser directives" and "Here-Documents". Line numbers count from 1.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from sampan.errors import InvalidArgumentError

MAX_DOCKERFILE_BYTES: Final = 16 << 20  # as BuildKit has it
MAX_LINE_CHARACTERS: Final = 1 << 20
# Each is a step of a graph, or a line of the image's history.
MAX_INSTRUCTIONS: Final = 5000

_DIRECTIVE: Final = re.compile(r"#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
# Directives of files that need not be Dockerfiles, after any of these.
_IN_COMMENT: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*")
_COMMENTS: Final = ("#", "//")
_BOM: Final = b"\xef\xbb\xbf"
_MAX_TOP_BYTES: Final = 64 << 10  # of lines with directives
_MAX_JSON_BYTES: Final = 1 << 20
_DIRECTIVES: Final = frozenset(("syntax", "escape", "check"))
_ESCAPES: Final = frozenset(("\\", "`"))
_HERE_DOCUMENT: Final = re.compile(r"(\d*)<<(-?)\s*(['\"]?)([A-Za-z0-9_][\w.-]*)\3", re.ASCII)
_WITH_HERE_DOCUMENTS: Final = frozenset(("ADD", "COPY", "RUN"))
_BLANK: Final = " \t"


@dataclass(frozen=True, slots=True)
class Lines:
    """A range of lines, both ends included."""

    first: int
    last: int


class DockerfileError(InvalidArgumentError):
    """A Dockerfile that cannot be built as it is written.

    ``lines`` are where, None where no line is to blame; ``before`` are those that led there, in their order.
    """

    def __init__(self, message: str, lines: Lines | None = None, before: Sequence[Lines] = ()) -> None:
        super().__init__(message)
        self.lines = lines
        self.before = tuple(before)
        self.file_name = ""
        self.data = b""

    def within(self, file_name: str, data: bytes) -> "DockerfileError":
        """Return this, with the file that the lines are in."""
        self.file_name, self.data = file_name, data
        return self


class EmptyDockerfileError(DockerfileError):
    """It has no instructions."""


class UnknownInstructionError(DockerfileError):
    """It has an instruction that is none."""


class MissingTriggerError(DockerfileError):
    """It has an ONBUILD that says nothing."""


@dataclass(frozen=True, slots=True)
class HereDocument:
    """What stands between ``<<EOT`` and ``EOT``."""

    name: str  # the word that ends it
    content: str  # every line with its newline
    expand: bool  # variables are put in: the word was not quoted
    chomp: bool  # ``<<-``: tabs at the beginning of its lines are taken away
    descriptor: str = ""  # the digits before ``<<``; 0 is standard input


@dataclass(frozen=True, slots=True)
class Statement:
    """One instruction as it is written."""

    keyword: str  # upper case
    flags: tuple[str, ...]  # "--from=build", in order
    text: str  # what follows them, continued lines joined
    lines: Lines
    written: str  # the keyword as it is written
    here_documents: tuple[HereDocument, ...] = ()
    comments: tuple[str, ...] = ()  # directly above it, without "#"; they describe arguments and stages
    original: str = ""  # the instruction on one line, as progress shows it


@dataclass(frozen=True, slots=True)
class Directive:
    """``# name=value`` at the top of the file."""

    name: str
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Syntax:
    """Which frontend a file is written for, as it or a client says; the file may be in any language."""

    text: str  # the image, and whatever follows it
    lines: Lines | None = None  # where the file says so

    @property
    def image(self) -> str:
        """Return the image's name."""
        return self.text.split()[0]


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file."""

    text: str
    directives: tuple[Directive, ...]
    statements: tuple[Statement, ...]
    escape: str = "\\"
    empty_continuations: tuple[int, ...] = field(default=())  # last lines of instructions that have an empty one

    def directive(self, name: str) -> str:
        """Return a directive's value; empty if there is none."""
        return next((each.value for each in self.directives if each.name == name), "")


def parse_source(data: bytes) -> Source:
    """Split a Dockerfile into instructions.

    Raises:
        DockerfileError: too large, no instructions, a directive twice, a here-document without its end.
    """
    if len(data) > MAX_DOCKERFILE_BYTES:
        raise DockerfileError(f"Dockerfile exceeds maximum allowed size of {MAX_DOCKERFILE_BYTES} bytes")
    # Names in comments are often in another encoding. As with Docker, what is no UTF-8 is replaced.
    text = data.decode("utf-8-sig", errors="replace")
    lines = text.split("\n")
    directives = _read_directives(lines)
    escape = next((each.value for each in directives if each.name == "escape"), "\\")
    reader = _Reader(lines, escape, {each.line for each in directives})
    statements = tuple(islice(reader.statements(), MAX_INSTRUCTIONS + 1))
    if len(statements) > MAX_INSTRUCTIONS:
        raise DockerfileError(f"dockerfile has more than {MAX_INSTRUCTIONS} instructions", statements[-1].lines)
    if not statements:
        last = len(lines) - (not lines[-1])
        raise EmptyDockerfileError("file with no instructions", Lines(last, last) if last else None)
    return Source(text, directives, statements, escape, tuple(reader.empty_continuations))


def _read_directives(lines: Sequence[str]) -> tuple[Directive, ...]:
    """Read the comments at the top that are directives; the first line that is none ends them."""
    found: list[Directive] = []
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None or match[1].lower() not in _DIRECTIVES:
            if number == 1 and line.startswith("#!"):
                continue  # a shebang may come first
            break
        name, value = match[1].lower(), match[2]
        at = Lines(number, number)
        if any(each.name == name for each in found):
            raise DockerfileError(f"only one {name} parser directive can be used", at)
        if name == "escape" and value not in _ESCAPES:
            raise DockerfileError(f"invalid escape token '{value}' does not match ` or \\", at)
        found.append(Directive(name, value, number))
    return tuple(found)


class _Reader:
    """Walks through the lines once."""

    def __init__(self, lines: Sequence[str], escape: str, directives: Collection[int]) -> None:
        self._lines = [line.removesuffix("\r") for line in lines]
        self._directives = directives  # their lines
        self._next = 0
        token = re.escape(escape)
        self._continued = re.compile(rf"(?:^|[^{token}])({token}[ \t]*)$")
        self._escape = escape
        self.empty_continuations: list[int] = []

    def statements(self) -> Iterator[Statement]:
        comments: list[str] = []
        while self._next < len(self._lines):
            line = self._lines[self._next].strip()
            if line.startswith("#"):
                if self._next + 1 not in self._directives:
                    comments.append(line[1:].strip())
                self._next += 1
            elif not line:
                comments.clear()
                self._next += 1
            else:
                yield self._statement(tuple(comments))
                comments.clear()

    def _statement(self, comments: tuple[str, ...]) -> Statement:
        first = self._next + 1
        text = self._logical_line()
        written, _, rest = _cut(text)
        keyword = written.upper()
        flags, body = _take_flags(rest)
        documents = self._here_documents(keyword, body, first)
        original = keyword + text.removeprefix(written)
        return Statement(keyword, flags, body, Lines(first, self._next), written, documents, comments, original)

    def _logical_line(self) -> str:
        """Join a line with those that it continues on; comments and empty lines between them are dropped."""
        parts: list[str] = []
        size, interrupted = 0, False
        while self._next < len(self._lines):
            line = self._lines[self._next]
            self._next += 1
            if parts and line.lstrip(_BLANK).startswith("#"):
                continue
            if parts and not line.strip():
                interrupted = True
                continue
            match = self._continued.search(line)
            part = line[: match.start(1)] if match else line
            parts.append(part if parts else part.lstrip())
            size += len(part)
            if size > MAX_LINE_CHARACTERS:
                raise DockerfileError(
                    f"dockerfile line greater than max allowed size of {MAX_LINE_CHARACTERS}",
                    Lines(self._next, self._next),
                )
            if match is None:
                break
        if interrupted:
            self.empty_continuations.append(self._next)
        return "".join(parts).rstrip()

    def _here_documents(self, keyword: str, body: str, first: int) -> tuple[HereDocument, ...]:
        if keyword == "ONBUILD":
            keyword, _, body = _cut(body)
            keyword = keyword.upper()
        if keyword not in _WITH_HERE_DOCUMENTS or "<<" not in body or body.lstrip().startswith("["):
            return ()
        return tuple(self._read_document(match, first) for match in here_document_words(body, self._escape))

    def _read_document(self, match: "re.Match[str]", first: int) -> HereDocument:
        name, chomp = match[4], bool(match[2])
        content: list[str] = []
        while self._next < len(self._lines):
            line = self._lines[self._next]
            self._next += 1
            if (line.lstrip("\t") if chomp else line) == name:
                text = "".join(f"{each.lstrip(chr(9)) if chomp else each}\n" for each in content)
                return HereDocument(name, text, expand=not match[3], chomp=chomp, descriptor=match[1])
            content.append(line)
        raise DockerfileError("unterminated heredoc", Lines(first, len(self._lines) - (not self._lines[-1])))


def here_document_words(text: str, escape: str = "\\") -> "Iterator[re.Match[str]]":
    """Yield the ``<<EOT`` words that stand outside quotes, in order. Groups: descriptor, dash, quote, name."""
    quote = ""
    position = 0
    word_start = True
    while position < len(text):
        char = text[position]
        if char == escape and quote != "'":
            position += 2
            word_start = False
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif word_start or char == "<":
            match = _HERE_DOCUMENT.match(text, position)
            ends = match is not None and (match.end() == len(text) or text[match.end()] in " \t;|&)<>")
            if match is not None and ends and (word_start or text[position - 1] != "<"):
                yield match
                position = match.end()
                word_start = False
                continue
        word_start = char in " \t;|&("
        position += 1


def _cut(text: str) -> tuple[str, str, str]:
    """Split at the first blanks."""
    parts = text.split(None, 1)
    return (parts[0] if parts else "", " ", parts[1] if len(parts) > 1 else "")


def _take_flags(text: str) -> tuple[tuple[str, ...], str]:
    """Return the flags that ``text`` begins with, and the rest. Quotes and backslashes keep blanks in, and go away."""
    flags: list[str] = []
    rest = text.lstrip()
    while rest.startswith("--"):
        flag, quote, position = "", "", 0
        while position < len(rest):
            char = rest[position]
            position += 1
            if char == "\\":
                flag += rest[position : position + 1]
                position += 1
            elif quote:
                flag += char if char != quote else ""
                quote = "" if char == quote else quote
            elif char in "\"'":
                quote = char
            elif char in _BLANK:
                break
            else:
                flag += char
        rest = rest[position:].lstrip()
        if flag == "--":
            break
        flags.append(flag)
    return tuple(flags), rest


# Files in other languages ---------------------------------


def find_syntax(data: bytes) -> Syntax | None:
    """Return the syntax directive of a file; None if it has none."""
    data = data.removeprefix(_BOM)
    above = 0
    if data.startswith(b"#!"):
        data, above = data.partition(b"\n")[2], 1
    top = data[:_MAX_TOP_BYTES].decode(errors="replace").split("\n")
    for comment in _COMMENTS:
        for number, line in enumerate(top, 1 + above):
            match = _IN_COMMENT.fullmatch(line.removeprefix(comment)) if line.startswith(comment) else None
            if match is None or match[1].lower() not in _DIRECTIVES:
                break
            if match[1].lower() == "syntax":
                return Syntax(match[2], Lines(number, number))
    return _of_json(data, 1 + above)


def _of_json(data: bytes, line: int) -> Syntax | None:
    if not data.lstrip().startswith(b"{") or len(data) > _MAX_JSON_BYTES:
        return None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    text = document.get("syntax")
    return Syntax(text, Lines(line, line)) if isinstance(text, str) and text.strip() else None
