"""What of others a container joins, and the user namespace that it has of its own or with them."""

import contextlib
import dataclasses
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from runtimed.containers.links import link_variables
from runtimed.containers.memory_store import UP, Entry, MemoryStore
from runtimed.containers.paths import ContainerPaths, Paths
from runtimed.lifecycle.idmapped import Owners
from runtimed.lifecycle.mounter import MappedMounter
from runtimed.protocol import Joins
from sampan.docker.options.namespaces import namespace_path
from sampan.errors import ConflictError, StartError
from sampan.resource.container import Container

_PREFIX: Final = "container:"


def joins_of(container: Container, memory: MemoryStore, paths: Paths) -> Joins:
    """Return the namespaces and the /dev/shm that ``container`` asks to share.

    Raises:
        NotFoundError: the other container is gone.
        ConflictError: it does not run, or does not share its IPC namespace.
    """
    namespaces = container.spec.namespaces
    other = _lookup(memory)
    shm = str(paths.container(container.id).shm) if namespaces.ipc == "shareable" else ""
    if owner := other(namespaces.ipc):
        if owner.container.spec.namespaces.ipc not in ("shareable", "host"):
            raise ConflictError(
                f"cannot join IPC of a container {owner.id}: "
                "non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
            )
        owned = paths.container(owner.id).shm
        shm = str(owned) if owned.is_dir() else ""
    shared = owner or other(namespaces.network) or other(namespaces.pid)
    return Joins(
        users=_users_of_other(shared),
        network=_namespace(other(namespaces.network), "net"),
        pid=_namespace(other(namespaces.pid), "pid"),
        ipc=_namespace(owner, "ipc"),
        shm=shm,
        variables=link_variables(container, lambda name: memory.find(name).container),
    )


def _lookup(memory: MemoryStore) -> Callable[[str], Entry | None]:
    def other(mode: str) -> Entry | None:
        if not mode.startswith(_PREFIX):
            return None
        entry = memory.find(mode.removeprefix(_PREFIX))
        if entry.status not in UP:
            raise ConflictError(
                f"cannot join namespace of a non running container: container {entry.id} is not running"
            )
        return entry

    return other


def _users_of_other(entry: Entry | None) -> str:
    """Return the user namespace that whoever joins another namespace of a container has to join as well."""
    mapped = entry is not None and entry.container.spec.namespaces.uid_mappings
    return _namespace(entry, "user") if mapped else ""


def _namespace(entry: Entry | None, kind: str) -> str:
    return f"/proc/{entry.container.state.pid}/ns/{kind}" if entry is not None else ""


def users_of(
    container: Container, find_joins: Callable[[Container], Joins], mounter: MappedMounter, paths: ContainerPaths
) -> str:
    """Return the user namespace that the engine gives the container, new or of one that it joins; empty: none. Blocks.

    Raises:
        StartError: there can be none.
    """
    owners = Owners.of(container.spec.namespaces)
    if owners is None or namespace_path(container.spec.namespaces.user):
        return ""
    if joined := find_joins(container).users:
        return joined
    paths.bundle.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        mounter.hold_users(owners, paths.users)
    except OSError as error:
        raise StartError(f"cannot make a user namespace: {error.strerror}") from error
    return str(paths.users)


def show_mapped(entry: Entry, mounter: MappedMounter, paths: ContainerPaths) -> None:
    """Mount the root anew with its files as those of the container's users, now that all is made in it."""
    owners = Owners.of(entry.container.spec.namespaces)
    assert owners is not None
    check_passage(paths.paths.roots.parent)
    mounter.unmount(paths.root)
    try:
        for mount in entry.root_mounts:
            mounter.mount_mapped(mount, paths.root, owners)
        mounter.show(paths.root, paths.shown_root, owners)
    except OSError as error:
        raise StartError(f"cannot mount the root file system with its owners mapped: {error.strerror}") from error


def check_passage(directory: Path) -> None:
    """Raise StartError if a directory, or one above it, lets no other user of the host pass."""
    for one in (directory, *directory.parents):
        if not one.stat().st_mode & stat.S_IXOTH:
            raise StartError(f"root of a user namespace is another user of the host, and {one} lets none pass")


def give_streams(pid: int, uid: int) -> None:
    """Let a process open its standard streams by name: conmon's pipes are the host's root's, and runc leaves that."""
    for number in range(3):
        stream = Path(f"/proc/{pid}/fd/{number}")
        with contextlib.suppress(OSError):  # it has ended
            if stat.S_ISFIFO(stream.stat().st_mode):
                os.chown(stream, uid, -1)


def within(container: Container, users: str) -> Container:
    """Return the container as one that joins the user namespace ``users``, if there is one."""
    if not users:
        return container
    namespaces = dataclasses.replace(container.spec.namespaces, user=f"ns:{users}")
    return dataclasses.replace(container, spec=dataclasses.replace(container.spec, namespaces=namespaces))
