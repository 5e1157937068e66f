"""Which IDs of the host containers get that do not say otherwise: dockerd's ``userns-remap``.

A user's ranges stand in subuid(5) and subgid(5). The first ID of the first one is root in every container; the others
follow. Containers that were made before the ranges were configured, or with others, keep what they have.
"""

import grp
import pwd
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Final

from sampan.docker.options.namespaces import network_mode
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ContainerSpec, IdMapping

_DEFAULT: Final = "default"
_DEFAULT_USER: Final = "dockremap"  # as dockerd calls it
_MOST_RANGES: Final = 300  # the kernel takes 340 lines, and mounts need one of their own
_LAST_ID: Final = (1 << 32) - 3
_LARGEST_FILE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Remapping:
    """The IDs of all containers."""

    uids: tuple[IdMapping, ...]
    gids: tuple[IdMapping, ...]

    def apply(self, spec: ContainerSpec) -> ContainerSpec:
        """Return the spec with a user namespace, unless it asks for the host's.

        Raises:
            InvalidArgumentError: it asks for what nobody has in one; Docker's words.
        """
        modes = spec.namespaces
        if modes.user == "host":
            return spec
        if spec.security.privileged:
            raise InvalidArgumentError(
                "privileged mode is incompatible with user namespaces.  You must run the container in the host "
                "namespace when running privileged mode"
            )
        if network_mode(modes.network) == "host":
            raise InvalidArgumentError("cannot share the host's network namespace when user namespaces are enabled")
        if modes.pid == "host":
            raise InvalidArgumentError("cannot share the host PID namespace when user namespaces are enabled")
        return replace(spec, namespaces=replace(modes, uid_mappings=self.uids, gid_mappings=self.gids))


def read_remapping(text: str, subuid: Path, subgid: Path) -> Remapping | None:
    """Return the IDs of ``user[:group]``, by names or numbers; None for an empty text.

    Raises:
        InvalidArgumentError: they have no ranges, or some that cannot be; the message says where they would be.
    """
    if not text:
        return None
    user, colon, group = text.partition(":")
    if user == _DEFAULT:
        user = _DEFAULT_USER
    if not user or (colon and not group):
        raise InvalidArgumentError(f"userns_remap: {text!r} is no user, and no user and group")
    if not colon:
        group = user
    uids = _mappings(subuid, _names(user, _user_name, _user_id), "user", user)
    gids = _mappings(
        subgid, _names(group, _group_name, _group_id) | _names(group, _user_name, _user_id), "group", group
    )
    return Remapping(uids, gids)


def _user_name(number: int) -> str:
    return pwd.getpwuid(number).pw_name


def _user_id(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _group_name(number: int) -> str:
    return grp.getgrgid(number).gr_name


def _group_id(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def _names(text: str, name_of: Callable[[int], str], id_of: Callable[[str], int]) -> set[str]:
    """Return what a line may begin with: the name and the number."""
    found = {text}
    with suppress(KeyError, OverflowError):
        found.add(name_of(int(text)) if text.isdecimal() else str(id_of(text)))
    return found


def _mappings(file: Path, names: set[str], kind: str, asked: str) -> tuple[IdMapping, ...]:
    found: list[IdMapping] = []
    inside = 0
    for start, count in _ranges(file, names):
        found.append(IdMapping(inside, start, count))
        inside += count
    if not found:
        raise InvalidArgumentError(
            f"userns_remap: no {file.name} ranges found for {kind} {asked!r}: {file} has no line such as "
            f'"{asked}:100000:65536"'
        )
    if len(found) > _MOST_RANGES or inside > _LAST_ID:
        raise InvalidArgumentError(f"userns_remap: {file} has more ranges for {kind} {asked!r} than there can be")
    _check_apart(found, file)
    return tuple(found)


def _ranges(file: Path, names: set[str]) -> Sequence[tuple[int, int]]:
    try:
        with file.open(errors="replace") as opened:
            text = opened.read(_LARGEST_FILE)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise InvalidArgumentError(f"userns_remap: {file} cannot be read: {error.strerror}") from error
    found = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if fields[0] not in names:
            continue
        if len(fields) != 3 or not all(field.isdecimal() and len(field) <= 10 for field in fields[1:]):
            raise InvalidArgumentError(f"userns_remap: {file}: {line!r} is not name:first:count")
        start, count = int(fields[1]), int(fields[2])
        if not count or start + count - 1 > _LAST_ID:
            raise InvalidArgumentError(f"userns_remap: {file}: {line!r} has IDs that cannot be")
        if start == 0:
            raise InvalidArgumentError(f"userns_remap: {file}: {line!r} would give containers the host's root")
        found.append((start, count))
    return found


def _check_apart(mappings: Sequence[IdMapping], file: Path) -> None:
    ordered = sorted(mappings, key=lambda one: one.host_id)
    for first, second in pairwise(ordered):
        if first.host_id + first.size > second.host_id:
            raise InvalidArgumentError(
                f"userns_remap: {file}: ranges from {first.host_id} and {second.host_id} overlap"
            )
