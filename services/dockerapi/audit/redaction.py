"""What of a request may be written down: no value of a variable, no password, and nothing of endless length.

A text is read as a shell reads it, word by word and quotes within quotes, since a health check or ``sh -c`` has its
command in one, and nothing says which text is a command. Whatever may be a secret is taken for one.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

HIDDEN: Final = "***"

_LONGEST: Final = 500  # characters of a text
_READ: Final = _LONGEST + 200  # a secret that begins before the end is read on

# Within a name. `author` is nobody's secret; `authorization`, `basicauth` and `authkey` are.
_NAMES: Final = r"passw|passphrase|pwd|secret|token|credential|auth(?!or(?!i))|private"
_KEYS: Final = (
    r"(?:api|access|account|signing|encryption|licen[cs]e|shared|master|unlock|ca)[-_. ]?key|[-_.]key$|[a-z0-9]Key$"
)
_SECRET_NAME: Final = re.compile(rf"{_NAMES}|{_KEYS}|^pass$|[-_.]pass$", re.IGNORECASE)

# A quote that does not end goes on to the end. Nothing is tried twice (``*+``): a text may have been made to be slow.
_QUOTED: Final = r'"(?:[^"\\]|\\[\s\S])*+(?:"|\\?\Z)|\'[^\']*+(?:\'|\Z)'
_VALUE: Final = rf"(?:{_QUOTED}|[^\s,;&\"']++)++"

# NAME=value, name: value and "name": "value", in a list of options, a query, a header or JSON.
_NAMED: Final = re.compile(
    r"((?:passw(?:or)?d|passphrase|pass|pwd|secret|token|key|credentials?|auth(?!or(?!i)))[\w.-]*+[\"']?\s*+[=:]\s*+)"
    + _VALUE,
    re.IGNORECASE,
)
_HEADER: Final = re.compile(
    r"((?:authorization|cookie)[\"']?\s*+[=:]\s*+[\"']?)[^\r\n\"']++|\b((?:bearer|basic)\s++)[\w+/=.~-]{8,}",
    re.IGNORECASE,
)
_VARIABLE: Final = re.compile(rf"(?<![\w.-])([A-Z_][A-Z0-9_]*+=){_VALUE}")
_IN_URL: Final = re.compile(r"(\w++://)([^/\s:@]*+)(:?)[^/\s]*@")

_WORD: Final = re.compile(rf"(?:{_QUOTED}|\\.|[^\s\"'\\|;&()]++)++|[|;&()]++|\s++|.", re.DOTALL)
_OPTION: Final = re.compile(r"--?([A-Za-z][\w.-]*)$")
_WITH_USER: Final = frozenset(("-u", "--user", "-U", "--proxy-user"))  # curl's NAME:PASSWORD

# Programs whose one-letter option is a password: as the next word, or in the same one.
_NEXT: Final = {
    "redis-cli": "-a", "valkey-cli": "-a", "sshpass": "-p", "mongo": "-p", "mongosh": "-p", "mongodump": "-p",
    "login": "-p", "ldapsearch": "-w", "ldapwhoami": "-w", "sqlcmd": "-P", "mosquitto_pub": "-P", "mosquitto_sub": "-P",
    "cqlsh": "-p", "clickhouse-client": "-p", "ipmitool": "-P",
}  # fmt: skip
_ATTACHED: Final = re.compile(r"(?:mysql|mariadb)[\w-]*$")

_MOST_ITEMS: Final = 50
_DEEPEST: Final = 8

# Lists of NAME=value, and mappings from names to values.
_VARIABLES: Final = frozenset(("env", "buildargs", "secrets", "frontendattrs"))

# What a swarm's secret or configuration is, whatever it is called.
_CONTENT: Final = frozenset(("data",))


def redacted(value: object, key: str = "", depth: int = 0) -> object:
    """Return a JSON value as it may be written down; ``key`` is what it stood under."""
    folded = key.lower().replace("_", "")
    if value in (None, "", [], {}, False):
        return value
    if folded in _VARIABLES:
        return _without_values(value)
    if key and (folded in _CONTENT or _is_secret_name(key)):
        return HIDDEN
    if depth >= _DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        some = list(value.items())[:_MOST_ITEMS]
        return {name[:_LONGEST]: redacted(item, name, depth + 1) for name, item in some if not _says_nothing(item)}
    if isinstance(value, list):
        items = value[:_MOST_ITEMS]
        texts = all(isinstance(item, str) for item in items)
        shown = [*_redacted_words(items)] if texts else [redacted(item, "", depth + 1) for item in items]
        return shown if len(value) <= _MOST_ITEMS else [*shown, f"… {len(value) - _MOST_ITEMS} more"]
    return redacted_text(value) if isinstance(value, str) else value


def _without_values(value: object) -> object:
    if isinstance(value, list):
        some = [item.partition("=") if isinstance(item, str) else (HIDDEN, "", "") for item in value[:_MOST_ITEMS]]
        return [f"{name}={HIDDEN}" if equals else name for name, equals, _ in some]
    if isinstance(value, Mapping):
        return dict.fromkeys(list(value)[:_MOST_ITEMS], HIDDEN)
    return HIDDEN


def _says_nothing(value: object) -> bool:
    return value is None or value in ("", [], {}, 0, False)


def _is_secret_name(name: str) -> bool:
    """Whether what is called so is nobody's business."""
    return _SECRET_NAME.search(name) is not None


def redacted_text(text: str) -> str:
    """Return a text without what may be a secret, and not longer than a few lines."""
    text = _read(text[:_READ])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _redacted_words(words: Iterable[str]) -> list[str]:
    """Return a list of texts without what may be a secret: a command's words, if it is one."""
    command = _Command()
    return [command.word(word, redacted_text) for word in words]


def _read(text: str) -> str:
    if text.isalnum():  # most are
        return text
    if any(character.isspace() for character in text):
        command = _Command()
        text = "".join(command.word(each, _unquoted) for each in _WORD.findall(text))
    return _without_named(text)


def _unquoted(word: str) -> str:
    """Read on within a word's quotes, which may hold a command of their own."""
    quote = word[:1]
    if quote in ("'", '"') and len(word) > 1:
        end = quote if word.endswith(quote) else ""
        return quote + _read(word[1 : len(word) - len(end)]) + end
    return _without_named(word)


def _without_named(text: str) -> str:
    text = _IN_URL.sub(lambda found: f"{found[1]}{_user(found)}@", text)
    text = _HEADER.sub(lambda found: f"{found[1] or found[2]}{HIDDEN}", text)
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    return _VARIABLE.sub(rf"\1{HIDDEN}", text)


def _user(found: "re.Match[str]") -> str:
    """Return who an address is asked as. Of HTTP's a name that stands alone may be a token."""
    if found[3]:
        return f"{found[2]}:{HIDDEN}"
    return HIDDEN if found[1].lower().startswith("http") else found[2]


@dataclass(slots=True)
class _Command:
    """Where in a command one is: what the next word is depends on those before it."""

    program: str = ""
    before: str = ""

    def word(self, word: str, read: Callable[[str], str]) -> str:
        """Return the next word as it may be written down; ``read`` says it of one that is no option's."""
        if not word.strip():
            return word
        before, self.before = self.before, word
        if word[0] in "|;&(":
            self.program = ""
            return word
        option = _OPTION.match(before)
        if option is not None and _is_secret_name(option[1]) and len(option[1]) > 1:
            return HIDDEN
        if before in _WITH_USER and ":" in word:
            return f"{word.partition(':')[0]}:{HIDDEN}"
        if _NEXT.get(self.program) == before:
            return HIDDEN
        attached = "-p" if _ATTACHED.match(self.program) else _NEXT.get(self.program, "")
        if attached and len(word) > len(attached) and word.startswith(attached):
            return attached + HIDDEN
        name = word.rpartition("/")[2]
        if name in _NEXT or _ATTACHED.match(name):
            self.program = name
        return read(word)
