"""Whom copied files belong to, and with which permissions.

Reference: passwd(5), group(5); chmod(1), "MODE"; Dockerfile reference, "COPY --chown --chmod".
"""

import os
import re
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from buildd.files.root import ABSENT, Root
from buildd.llb.ops import NO_INPUT, Owner, UserName
from sampan.errors import InvalidArgumentError
from sampan.oci.ids import MAX_FILE_ID, id_number

_USERS: Final = "/etc/passwd"
_GROUPS: Final = "/etc/group"
_MAX_BYTES: Final = 16 << 20  # of either

_CLAUSE: Final = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_STEP: Final = re.compile(r"([-+=])([rwxXst]+|[ugo]|)")
_WHO: Final = {"u": 0o4700, "g": 0o2070, "o": 0o1007}
_BITS: Final = {"r": 0o444, "w": 0o222, "x": 0o111}
_SHIFT: Final = {"u": 6, "g": 3, "o": 0}


@dataclass(frozen=True, slots=True)
class Ids:
    """A user and a group."""

    uid: int
    gid: int


def find_owner(owner: Owner | None, roots: Callable[[int], Root], log: Callable[[str], None]) -> Ids | None:
    """Return whom files are to belong to, None if that is left as it is.

    A name that reads as a number is that ID, whatever the files call by it. One that is not in the files is root, as it
    is for every builder of Dockerfiles; ``log`` is told.

    Raises:
        InvalidArgumentError: a name, and no files to look it up in; a file that is none; a number that is no ID.
    """
    if owner is None:
        return None
    uid = gid = 0
    if owner.user is not None:
        uid, gid = _user(owner.user, roots, log)
    if owner.group is not None:
        gid = _group(owner.group, roots, log)
    return Ids(uid, gid)


def _user(user: UserName, roots: Callable[[int], Root], log: Callable[[str], None]) -> tuple[int, int]:
    number = _asked(user)
    if number is not None:
        return number, number
    if user.input == NO_INPUT:
        raise InvalidArgumentError("invalid missing user mount")
    for fields in _lines(roots(user.input), _USERS):
        if fields[0] == user.name and len(fields) > 3:
            return _number(fields[2], user.name), _number(fields[3], user.name)
    log(f"user {user.name} is not in {_USERS}: its files belong to root")
    return 0, 0


def _group(group: UserName, roots: Callable[[int], Root], log: Callable[[str], None]) -> int:
    number = _asked(group)
    if number is not None:
        return number
    if group.input == NO_INPUT:
        raise InvalidArgumentError("invalid missing group mount")
    for fields in _lines(roots(group.input), _GROUPS):
        if fields[0] == group.name and len(fields) > 2:
            return _number(fields[2], group.name)
    log(f"group {group.name} is not in {_GROUPS}: its files belong to the group root")
    return 0


def _asked(who: UserName) -> int | None:
    number = id_number(who.name) if who.number is None else who.number
    if number is not None and not 0 <= number <= MAX_FILE_ID:
        raise InvalidArgumentError(f"{who.name or number} is no user or group ID: the last one is {MAX_FILE_ID}")
    return number


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10 or int(text) > MAX_FILE_ID:
        raise InvalidArgumentError(f"{name} has the invalid ID {text[:20]!r} in the image")
    return int(text)


def _lines(root: Root, path: str) -> list[list[str]]:
    """Return the fields of the lines of such a file; an image may have put anything there."""
    real = root.real(path)
    found = root.stat(real)
    if found is None:
        return []
    if not stat.S_ISREG(found.st_mode) or found.st_size > _MAX_BYTES:
        raise InvalidArgumentError(f"{path} is no file of users or groups")
    try:
        fd = root.file(real)
    except OSError as error:
        if error.errno in ABSENT:
            return []
        raise
    with os.fdopen(fd, "rb") as file:
        text = file.read(_MAX_BYTES).decode(errors="replace")
    return [line.split(":") for line in text.split("\n")]


def changed_mode(text: str, mode: int) -> int:
    """Return permission bits as chmod(1) makes them of a file's ``mode`` (with its type), with an umask of 0.

    Raises:
        InvalidArgumentError: ``text`` is not a symbolic mode.
    """
    bits = stat.S_IMODE(mode)
    for clause in text.split(","):
        parsed = _CLAUSE.fullmatch(clause)
        if parsed is None:
            raise InvalidArgumentError(f"invalid mode {text!r}")
        who = set(parsed[1].replace("a", "ugo")) or set("ugo")
        for sign, permissions in _STEP.findall(parsed[2]):
            bits = _step(bits, who, sign, _permissions(permissions, bits, mode))
    return bits


def _step(bits: int, who: set[str], sign: str, wanted: int) -> int:
    mask = 0
    for each in who:
        mask |= _WHO[each]
    # The sticky bit belongs to nobody in particular.
    wanted &= mask | (stat.S_ISVTX if wanted & stat.S_ISVTX and who == set("ugo") else 0)
    if sign == "+":
        return bits | wanted
    if sign == "-":
        return bits & ~wanted
    return (bits & ~(mask & 0o777) & ~(mask & 0o7000)) | wanted


def _permissions(text: str, bits: int, mode: int) -> int:
    if text in _SHIFT:
        taken = bits >> _SHIFT[text] & 7
        return taken << 6 | taken << 3 | taken
    wanted = 0
    letters: Mapping[str, int] = _BITS
    for letter in text:
        if letter == "X":
            wanted |= 0o111 if stat.S_ISDIR(mode) or bits & 0o111 else 0
        elif letter == "s":
            wanted |= 0o6000
        elif letter == "t":
            wanted |= 0o1000
        else:
            wanted |= letters[letter]
    return wanted
