"""All containers, in memory and in the database: every read is answered from here, every change is written through."""

import asyncio
import dataclasses
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from runtimed.conmon.stdio import StdioConnection
from runtimed.containers.names import in_use, make_up_name
from runtimed.containers.store import ContainerStore, Intent, Row
from runtimed.events import Telling
from runtimed.protocol import SnapshotMount
from sampan.errors import ConflictError, InvalidArgumentError, NoSpaceError, NotFoundError
from sampan.log import log
from sampan.resource.container import Container, ContainerState, Exit, NetworkSettings, Status
from sampan.resource.container_spec import ConsoleSize
from sampan.resource.event import Event
from sampan.service.set_aside import SetAside

_HEX: Final = re.compile(r"[0-9a-f]{1,64}")
_RECORD_AGAIN_S: Final = 2.0
_SHOWN_DIGITS: Final = 12  # of an ID, in lists

UP: Final = frozenset({Status.RUNNING, Status.PAUSED})


@dataclass(slots=True, eq=False)
class Entry:
    """A container and what this process knows of it beside its record. ``lock`` guards changes of its state."""

    container: Container
    intent: Intent
    stopped_by_request: bool = False
    removes_volumes: bool = False  # its anonymous ones, when it is removed
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Held by the memory store from reading the record until its successor is written and shown. State, name, limits and
    # networks are changed by different operations at the same time: none may write back what it read before another.
    recording: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Set while it does not run, cleaned up after its last run; restarting is running, as Docker sees it.
    down: asyncio.Event = field(default_factory=asyncio.Event)
    # Set when it is known whether it will be there: it has been created, or what was made of it is undone.
    decided: asyncio.Event = field(default_factory=asyncio.Event)
    exit_waiters: set["asyncio.Future[Exit]"] = field(default_factory=set)
    removal_waiters: set["asyncio.Future[Exit]"] = field(default_factory=set)
    pending: set["asyncio.Future[StdioConnection | None]"] = field(default_factory=set)  # clients waiting for its start
    connections: set[StdioConnection] = field(default_factory=set)
    root_mounts: tuple[SnapshotMount, ...] = ()  # empty: not asked for yet
    console_size: ConsoleSize | None = None  # of a client's terminal, for the next start
    stop_requested: bool = False  # in this run: no restart policy applies
    holders: set[object] = field(default_factory=set)  # calls that keep it frozen
    restarting: int = 0  # calls that are about to start it again: auto-remove does not apply
    starting: int = 0  # calls that start it, though its record may not say so yet
    init_pidfd: int = -1  # of its first process, while it runs
    backoff_s: float = 0.0
    cleared: bool = False  # nothing is left of its last run, as this process knows

    @property
    def id(self) -> str:
        """Its ID."""
        return self.container.id

    @property
    def status(self) -> Status:
        """Where in its life it is."""
        return self.container.state.status

    @contextmanager
    def start_under_way(self) -> Iterator[None]:
        """Let ``settled`` wait while the block lasts."""
        self.starting += 1
        try:
            yield
        finally:
            self.starting -= 1

    async def settled(self) -> None:
        """Wait for a start that is under way: its process may be seen before its record says that it runs."""
        if self.starting or self.intent is Intent.STARTING:
            async with self.lock:
                pass

    @property
    def row(self) -> Row:
        """What the store shall hold."""
        return self.row_with(self.container, self.intent)

    def row_with(self, container: Container, intent: Intent) -> Row:
        """What the store shall hold when it is ``container``."""
        return Row(container, intent, self.stopped_by_request, self.removes_volumes)


# Which moves there are; ``lifecycle`` checks every change against this table.
ALLOWED: Final[dict[Status, frozenset[Status]]] = {
    Status.CREATED: frozenset({Status.RUNNING, Status.CREATED, Status.REMOVING, Status.DEAD, Status.EXITED}),
    Status.RUNNING: frozenset({Status.PAUSED, Status.EXITED, Status.RESTARTING}),
    Status.PAUSED: frozenset({Status.RUNNING, Status.EXITED, Status.RESTARTING}),
    Status.RESTARTING: frozenset({Status.RUNNING, Status.EXITED, Status.REMOVING}),
    Status.EXITED: frozenset({Status.RUNNING, Status.EXITED, Status.RESTARTING, Status.REMOVING}),
    Status.REMOVING: frozenset({Status.DEAD, Status.REMOVING}),
    Status.DEAD: frozenset({Status.REMOVING, Status.DEAD}),
}


class MemoryStore:
    """Containers by ID and by name."""

    def __init__(self, store: ContainerStore, choose: random.Random, set_aside: SetAside) -> None:
        self._store = store
        self._set_aside = set_aside
        self._choose = choose
        self._by_id: dict[str, Entry] = {}
        self._ids_by_name: dict[tuple[str, str], str] = {}  # each owner has names of its own
        self._unrecorded: set[Entry] = set()
        self._behind = asyncio.Event()

    async def load(self) -> None:
        """Read the store; called once, before anything else."""
        for row in await self._store.containers():
            if row.fault:
                self._set_aside.add("container", row.container.id, row.fault, row.container.name)
            entry = Entry(row.container, row.intent, row.stopped_by_request, row.removes_volumes)
            if entry.status not in UP:
                entry.down.set()
            self._by_id[entry.id] = entry
            self._ids_by_name[_full_name(entry.container)] = entry.id

    def set_aside(self, entry: Entry, reason: str) -> None:
        """Show it as dead from now on, which can be removed and nothing else; its record stays for the next start."""
        self._set_aside.add("container", entry.id, reason, entry.container.name)
        state = dataclasses.replace(entry.container.state, status=Status.DEAD, pid=0, error=reason)
        entry.container = dataclasses.replace(entry.container, state=state)
        entry.intent = Intent.SETTLED
        entry.decided.set()
        entry.down.set()

    def is_set_aside(self, entry: Entry) -> bool:
        """Whether it could not be recovered."""
        return bool(self._set_aside.reason("container", entry.id))

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._by_id.values()))

    def by_id(self, id: str) -> Entry | None:
        """Return the container of that full ID."""
        return self._by_id.get(id)

    def check_known(self, entry: Entry) -> None:
        """Raise NotFoundError if ``entry`` was removed while its finder waited for the lock."""
        if self._by_id.get(entry.id) is not entry:
            raise NotFoundError(f"No such container: {entry.id}")

    def find(self, container: str, owner: str = "") -> Entry:
        """Return the container of that ID, name or unambiguous prefix of an ID.

        Names and prefixes are those of ``owner``'s containers. Of one that another has, who knows the ID, or as much of
        it as lists show, has been shown it.

        Raises:
            NotFoundError, InvalidArgumentError: in Docker's words.
        """
        if not container:
            raise InvalidArgumentError('invalid name or ID supplied: ""')
        name = container.removeprefix("/")
        if entry := self._by_id.get(container):
            return self._visible(entry, container)
        if holder := self._ids_by_name.get((owner, name)):
            return self._visible(self._by_id[holder], container)
        found = [key for key in self._by_id if key.startswith(container)] if _HEX.fullmatch(container) else []
        own = [key for key in found if self._by_id[key].container.spec.owner == owner]
        matches = own or (found if len(container) >= _SHOWN_DIGITS else [])
        if len(matches) > 1:
            raise InvalidArgumentError(f"multiple IDs found with provided prefix: {container}")
        if not matches:
            raise NotFoundError(f"No such container: {container}")
        return self._visible(self._by_id[matches[0]], container)

    def _visible(self, entry: Entry, asked: str) -> Entry:
        if entry.intent is Intent.CREATING:
            raise NotFoundError(f"No such container: {asked}")
        return entry

    def choose_name(self) -> str:
        """Return a free, made-up name."""
        return make_up_name({name for _, name in self._ids_by_name}, self._choose)

    def _claim(self, full_name: tuple[str, str], id: str) -> None:
        holder = self._ids_by_name.setdefault(full_name, id)
        if holder != id:
            raise in_use(full_name[1], holder)

    async def until_decided(self, name: str, owner: str = "") -> None:
        """Return when no container of that name is being created.

        Who is told that a name is in use relies on the container that has it. One that is still being created may never
        be there: a client that asks again, as the answer to its first request was lost, would be left with nothing.
        """
        while entry := self._undecided((owner, name)):
            await entry.decided.wait()

    def _undecided(self, full_name: tuple[str, str]) -> Entry | None:
        holder = self._by_id.get(self._ids_by_name.get(full_name, ""))
        if holder is None or holder.intent is not Intent.CREATING or holder.decided.is_set():
            return None
        return holder

    def claim(self, container: Container) -> Entry:
        """Take the name of a container that is about to be created; nobody finds it before it is settled.

        Raises:
            ConflictError: the name is taken; Docker's words.
        """
        self._claim(_full_name(container), container.id)
        entry = Entry(container, Intent.CREATING)
        entry.down.set()
        self._by_id[entry.id] = entry
        return entry

    async def add(self, entry: Entry) -> Entry:
        """Record and return a container whose name is claimed; if that fails, its name is free again."""
        try:
            await self._store.add_container(entry.row)
        except BaseException:
            self._forget(entry)
            raise
        return entry

    async def rename(self, entry: Entry, name: str) -> None:
        """Give it another name.

        Raises:
            ConflictError: as ``add`` does.
            NotFoundError: it was removed meanwhile.
        """
        async with entry.recording:
            self.check_known(entry)
            old = entry.container
            self._claim((old.spec.owner, name), entry.id)
            new = dataclasses.replace(old, spec=dataclasses.replace(old.spec, name=name))
            try:
                await self._store.set_container(entry.row_with(new, entry.intent))
            except BaseException:
                if name != old.name:
                    del self._ids_by_name[old.spec.owner, name]
                raise
            entry.container = new
            if name != old.name:
                del self._ids_by_name[_full_name(old)]

    async def set_state(
        self,
        entry: Entry,
        state: ContainerState | None = None,
        *,
        intent: Intent = Intent.SETTLED,
        network: NetworkSettings | None = None,
        restart_count: int | None = None,
        happened: bool = False,
        telling: Telling | None = None,
        durable: bool = True,
    ) -> None:
        """Record a change of state, with the event of it if there is one, then show it.

        With ``durable`` false, or of a container that passes, nobody waits for the disk: see ``passes``.

        What has ``happened`` already, such as an exit, is shown even if the disk is full, and recorded as soon as there
        is space for it; until then a record says less than what is so, and recovery finds out again.

        Raises:
            ConflictError: there is no way from its state to that one.
            NoSpaceError: the disk is full, and it has not happened yet.
        """
        async with entry.recording:
            old = entry.container
            if state is not None and state.status is not old.state.status:
                check_move(old.state.status, state.status)
            new = dataclasses.replace(
                old,
                state=old.state if state is None else state,
                network=old.network if network is None else network,
                restart_count=old.restart_count if restart_count is None else restart_count,
            )
            try:
                durable = durable and not passes(new)
                await self._store.set_state(entry.row_with(new, intent), _event_of(telling), durable=durable)
            except NoSpaceError as error:
                if not happened:
                    raise
                status = new.state.status.value
                log.warning("container not recorded yet", container=entry.id, status=status, error=str(error))
                self._unrecorded.add(entry)
                self._behind.set()
            else:
                self._unrecorded.discard(entry)
                _note_recorded(telling)
            entry.container, entry.intent = new, intent

    def is_recorded(self, entry: Entry) -> bool:
        """Whether the store holds what is shown."""
        return entry not in self._unrecorded

    async def write_behind(self) -> None:
        """Record what could not be when it happened, for as long as the service lives."""
        while True:
            await self._behind.wait()
            await asyncio.sleep(_RECORD_AGAIN_S)  # the kernel tells nobody that there is space again
            for entry in tuple(self._unrecorded):
                if self._by_id.get(entry.id) is entry:
                    await self.set_state(entry, intent=entry.intent, happened=True)
                else:
                    self._unrecorded.discard(entry)
            if not self._unrecorded:
                self._behind.clear()

    async def change(
        self,
        entry: Entry,
        change: Callable[[Container], Container],
        *,
        intent: Intent | None = None,
        telling: Telling | None = None,
        durable: bool = True,
    ) -> Container:
        """Record and show what ``change`` makes of the container as it is by then, with the event of it; return that.

        Raises NotFoundError: it was removed meanwhile.
        """
        async with entry.recording:
            self.check_known(entry)
            new, settled = change(entry.container), entry.intent if intent is None else intent
            row = entry.row_with(new, settled)
            await self._store.set_container(row, _event_of(telling), durable=durable and not passes(new))
            _note_recorded(telling)
            entry.container, entry.intent = new, settled
            if settled is not Intent.CREATING:
                entry.decided.set()
            return new

    async def remove(self, entry: Entry, *, telling: Telling | None = None) -> None:
        """Forget it, and record the event of that."""
        async with entry.recording:
            durable = is_waited_for(entry.container)
            await self._store.remove_container(entry.id, _event_of(telling), durable=durable)
            _note_recorded(telling)
            self._set_aside.drop("container", entry.id)
            self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        self._by_id.pop(entry.id, None)
        name = _full_name(entry.container)
        if self._ids_by_name.get(name) == entry.id:
            del self._ids_by_name[name]
        entry.decided.set()


def passes(container: Container) -> bool:
    """Whether the container goes with its process, and so with the machine's power.

    Nothing of it waits for the disk. After a power cut it is removed, if it is known then at all; one that had just
    been made may still be there as one that was never started.
    """
    return container.spec.auto_remove


def is_waited_for(container: Container) -> bool:
    """Whether more than its end waits for the disk: after a power cut a pod's is never started, but told of."""
    return not container.spec.owner and not passes(container)


def _full_name(container: Container) -> tuple[str, str]:
    return container.spec.owner, container.name


def _event_of(telling: Telling | None) -> Event | None:
    return None if telling is None else telling.event


def _note_recorded(telling: Telling | None) -> None:
    if telling is not None:
        telling.recorded = True


def check_move(old: Status, new: Status) -> None:
    """Raise ConflictError if no container goes from ``old`` to ``new``."""
    if new not in ALLOWED[old]:
        raise ConflictError(f"a container that is {old.value} cannot become {new.value}")


def utcnow() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC)
