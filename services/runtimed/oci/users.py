"""Who a process runs as: ``name|uid[:group|gid]``, looked up in the container's own passwd and group files."""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from runtimed.oci.rootfs import RootFs
from sampan.errors import StartError

# Image content: what is larger than any real file is refused rather than parsed.
_MAX_FILE_BYTES: Final = 4 << 20

_MAX_ID: Final = (1 << 31) - 1  # Docker's bound, half of the kernel's
_RANGE: Final = f"uids and gids must be in range 0-{_MAX_ID}"


@dataclass(frozen=True, slots=True)
class User:
    """A process's identity."""

    uid: int
    gid: int
    groups: tuple[int, ...]  # the supplementary ones; the primary one is among them
    home: str


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    uid: int
    gid: int
    home: str


@dataclass(frozen=True, slots=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


def resolve_user(root: RootFs, user: str, additional_groups: Sequence[str] = ()) -> User:
    """Return who ``user`` is in ``root``; an empty one is uid 0.

    Numbers need no entry. Without a group, that of the passwd entry counts, and the groups that list the user are
    supplementary ones. ``additional_groups`` are names or numbers.

    Raises:
        StartError: a name without an entry, a number out of range, or a passwd or group file that is no plain file;
            in Docker's words.
    """
    if "\0" in user:
        raise StartError(f"unable to find user {user!r}: no matching entries in passwd file")
    wanted, _, wanted_group = user.partition(":")
    account = _find_account(root, wanted)
    uid, gid, home = account.uid, account.gid, account.home
    groups = tuple(_groups(root))
    supplementary: tuple[int, ...] = ()
    if wanted_group:
        gid = _find_group(groups, wanted_group, f"unable to find group {wanted_group}")
    elif account.name:
        supplementary = tuple(group.gid for group in groups if account.name in group.members)
    extra = tuple(_find_group(groups, name, f"Unable to find group {name}") for name in additional_groups)
    return User(uid, gid, tuple(dict.fromkeys((gid, *supplementary, *extra))), home or "/")


def _find_account(root: RootFs, wanted: str) -> _Account:
    number = _number(wanted) if wanted else 0
    for account in _accounts(root):
        if account.name == wanted or account.uid == number:
            return account
    if number is None:
        raise StartError(f"unable to find user {wanted}: no matching entries in passwd file")
    if not 0 <= number <= _MAX_ID:
        raise StartError(f"unable to find user {wanted}: no matching entries in passwd file: {_RANGE}")
    return _Account("", number, 0, "/")


def _find_group(groups: Sequence[_Group], wanted: str, complaint: str) -> int:
    number = _number(wanted)
    for group in groups:
        if group.name == wanted or group.gid == number:
            return group.gid
    if number is None:
        raise StartError(f"{complaint}: no matching entries in group file")
    if not 0 <= number <= _MAX_ID:
        raise StartError(f"{complaint}: no matching entries in group file: {_RANGE}")
    return number


def _accounts(root: RootFs) -> Iterator[_Account]:
    for fields in _lines(root, "/etc/passwd"):
        if len(fields) >= 4:
            uid, gid = _number(fields[2]), _number(fields[3])
            if _usable(uid) and _usable(gid) and uid is not None and gid is not None:
                yield _Account(fields[0], uid, gid, fields[5] if len(fields) > 5 else "")


def _groups(root: RootFs) -> Iterator[_Group]:
    for fields in _lines(root, "/etc/group"):
        if len(fields) >= 3:
            gid = _number(fields[2])
            if _usable(gid) and gid is not None:
                members = fields[3].split(",") if len(fields) > 3 else []
                yield _Group(fields[0], gid, tuple(member.strip() for member in members))


def _usable(number: int | None) -> bool:
    return number is not None and 0 <= number <= _MAX_ID


def _lines(root: RootFs, path: str) -> Iterator[list[str]]:
    try:
        content = root.read(path, _MAX_FILE_BYTES)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return
        raise StartError(f"{path} of the container cannot be read: {error.strerror}") from error
    for line in content.split(b"\n"):
        text = line.decode(errors="surrogateescape").strip()
        if text and not text.startswith("#"):
            yield text.split(":")


def _number(text: str) -> int | None:
    """Return a decimal number, signed or not; anything else is a name."""
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None
