"""Who a process runs as: ``name|uid[:group|gid]``, looked up in the container's own passwd and group files."""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from runtimed.oci.rootfs import RootFs
from sampan.errors import StartError
from sampan.oci.ids import MAX_ID, id_number

# Image content: what is larger than any real file is refused rather than parsed.
_MAX_FILE_BYTES: Final = 4 << 20

_RANGE: Final = f"uids and gids must be in range 0-{MAX_ID}"


@dataclass(frozen=True, slots=True)
class User:
    """A process's identity."""

    uid: int
    gid: int
    groups: tuple[int, ...]  # the supplementary ones; the primary one is among them where it can be
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


def resolve_user(root: RootFs, user: str, additional_groups: Sequence[str] = (), *, strict: bool = False) -> User:
    """Return who ``user`` is in ``root``; an empty one is uid 0.

    What reads as a number is one, whatever the files call by it: who asks for uid 1000 must not get the uid that an
    image gives to a user *named* 1000. Numbers need no entry. Without a group, that of the passwd entry counts, and
    the groups that list the user are supplementary ones, unless ``strict``. ``additional_groups`` are names or numbers.

    Raises:
        StartError: a name without an entry, a number out of range, or a passwd or group file that is no plain file;
            in Docker's words. A supplementary group that the runtime would take for another one.
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
    elif account.name and not strict:
        supplementary = tuple(group.gid for group in groups if account.name in group.members)
    extra = tuple(_find_group(groups, name, f"Unable to find group {name}") for name in additional_groups)
    given = _given(root, gid, (*supplementary, *extra))
    return User(uid, gid, given, home or "/")


def _given(root: RootFs, primary: int, others: Sequence[int]) -> tuple[int, ...]:
    """Return the supplementary groups that can be given.

    runc before 1.3 looks each number up in the container's group file once more, as a name too. One that is another
    group's name there would become that group, root's for example.
    """
    wanted = dict.fromkeys((primary, *others))
    names = {str(number): number for number in wanted}
    misnamed = {
        names[fields[0]] for fields in _lines(root, "/etc/group") if fields[0] in names and fields[2:3] != [fields[0]]
    }
    for number in others:
        if number in misnamed and number != primary:
            raise StartError(f"group {number} cannot be added: the image has another group that is named {number}")
    return tuple(number for number in wanted if number not in misnamed)


def _find_account(root: RootFs, wanted: str) -> _Account:
    number = _in_range(wanted) if wanted else 0
    for account in _accounts(root):
        if account.name == wanted if number is None else account.uid == number:
            return account
    if number is None:
        raise StartError(f"unable to find user {wanted}: no matching entries in passwd file")
    return _Account("", number, 0, "/")


def _find_group(groups: Sequence[_Group], wanted: str, complaint: str) -> int:
    number = _in_range(wanted)
    if number is not None:
        return number
    for group in groups:
        if group.name == wanted:
            return group.gid
    raise StartError(f"{complaint}: no matching entries in group file")


def _in_range(text: str) -> int | None:
    """Return the ID that ``text`` is, None for a name; StartError for a number that is no ID."""
    number = id_number(text)
    if number is not None and not 0 <= number <= MAX_ID:
        raise StartError(_RANGE)
    return number


def _accounts(root: RootFs) -> Iterator[_Account]:
    for fields in _lines(root, "/etc/passwd"):
        if len(fields) >= 4:
            uid, gid = id_number(fields[2]), id_number(fields[3])
            if _usable(uid) and _usable(gid) and uid is not None and gid is not None:
                yield _Account(fields[0], uid, gid, fields[5] if len(fields) > 5 else "")


def _groups(root: RootFs) -> Iterator[_Group]:
    for fields in _lines(root, "/etc/group"):
        if len(fields) >= 3:
            gid = id_number(fields[2])
            if _usable(gid) and gid is not None:
                members = fields[3].split(",") if len(fields) > 3 else []
                yield _Group(fields[0], gid, tuple(member.strip() for member in members))


def _usable(number: int | None) -> bool:
    return number is not None and 0 <= number <= MAX_ID


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
