"""Cut a template into text and actions, and an action into words."""

import re
from dataclasses import dataclass
from typing import Final

from sampan.errors import InvalidArgumentError


class TemplateError(InvalidArgumentError):
    """A template that cannot be parsed, or does not fit what it is applied to."""


@dataclass(frozen=True, slots=True)
class Text:
    """What is printed as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """The words between ``{{`` and ``}}``."""

    words: tuple[str, ...]


_WORD: Final = re.compile(
    r"""\s*(?:
        (?P<word>
            "(?:[^"\\\n]|\\.)*" | `[^`]*`          # a string
          | -?\d+(?:\.\d+)?                        # a number
          | \$?\w*(?:\.\w+)+ | \$\w* | \. | \w+    # .Field.Field, $name.Field, ., a name
          | :?= | [|(),]
        )
      | (?P<field>\.\w+(?:\.\w+)*)
    )""",
    re.VERBOSE,
)


def tokenize(template: str) -> list[Text | Action]:
    """Return the template's parts in order. ``{{-`` and ``-}}`` take the space next to them away.

    Raises:
        TemplateError: an action that does not end, or something in it that is no word.
    """
    parts: list[Text | Action] = []
    rest, trim = template, False
    while True:
        text, opened, rest = rest.partition("{{")
        if trim:
            text = text.lstrip()
        if opened and rest.startswith("- "):
            text, rest = text.rstrip(), rest[1:]
        if text:
            parts.append(Text(text))
        if not opened:
            return parts
        body, rest = _action(rest)
        trim = body.endswith(" -")
        body = body[:-1] if trim else body
        if not body.lstrip().startswith("/*"):  # a comment
            parts.append(Action(_words(body)))


def _action(rest: str) -> tuple[str, str]:
    """Split after the ``}}`` that ends an action; one inside a string does not."""
    end, quote = 0, ""
    while end < len(rest):
        char = rest[end]
        if quote:
            if char == "\\" and quote == '"':
                end += 1
            elif char == quote:
                quote = ""
        elif char in '"`':
            quote = char
        elif rest.startswith("}}", end):
            return rest[:end], rest[end + 2 :]
        end += 1
    raise TemplateError("template parsing error: unclosed action")


def _words(body: str) -> tuple[str, ...]:
    words, at = [], 0
    while body[at:].strip():
        match = _WORD.match(body, at)
        if match is None:
            raise TemplateError(f"template parsing error: unexpected {body[at:].strip()[0]!r} in {{{{{body}}}}}")
        words.append(match.group().strip())
        # `)` followed directly by a field is the field of what is in parentheses; a space would make it a new operand.
        at = match.end()
    return tuple(words)
