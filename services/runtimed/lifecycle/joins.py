"""Look up what a container joins of others when it starts."""

from collections.abc import Callable

from runtimed.containers.memory_store import UP, Entry, MemoryStore
from runtimed.containers.paths import Paths
from runtimed.protocol import Joins
from sampan.errors import ConflictError
from sampan.resource.container import Container

_PREFIX = "container:"


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
    return Joins(
        network=_namespace(other(namespaces.network), "net"),
        pid=_namespace(other(namespaces.pid), "pid"),
        ipc=_namespace(owner, "ipc"),
        shm=shm,
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


def _namespace(entry: Entry | None, kind: str) -> str:
    return f"/proc/{entry.container.state.pid}/ns/{kind}" if entry is not None else ""
