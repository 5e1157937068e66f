"""runtimed's rows: containers, their states, execs, events."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from runtimed import events
from runtimed.containers.columns import from_json, to_json
from sampan.errors import NoSpaceError
from sampan.log import log
from sampan.resource.container import Container, ContainerState, MountPoint, NetworkSettings, Status
from sampan.resource.container_spec import ContainerSpec
from sampan.resource.event import Event
from sampan.resource.exec import Exec, ExecSpec
from sampan.service.set_aside import why
from sampan.store.database import Store

_MICROSECOND_NS = 1000


class Intent(Enum):
    """What was about to be done when the row was written."""

    CREATING = "creating"
    SETTLED = "settled"
    STARTING = "starting"
    REMOVING = "removing"


@dataclass(frozen=True, slots=True)
class Row:
    """A container as it is recorded."""

    container: Container
    intent: Intent
    stopped_by_request: bool = False
    removes_volumes: bool = False  # what was asked of a removal that has begun
    fault: str = ""  # why its record cannot be read: ``container`` is what is known in spite of that, and dead


class ContainerStore:
    """Named transactions on the service's database."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def containers(self) -> list[Row]:
        """Return all, oldest first."""

        def select(db: sqlite3.Connection) -> list[Row]:
            return [
                _row(row) for row in db.execute("SELECT * FROM containers JOIN states USING (id) ORDER BY created_ns")
            ]

        return await self._store.read(select)

    async def add_container(self, row: Row) -> None:
        """Record a new container with its intent.

        Nobody waits for the disk: what is there without it after a power cut is removed, and whoever records that the
        container is made does wait.
        """

        def insert(db: sqlite3.Connection) -> None:
            c = row.container
            db.execute(
                "INSERT INTO containers (id, name, created_ns, spec, mounts, runtime, cgroup) VALUES (?,?,?,?,?,?,?)",
                (c.id, _name(c), _ns(c.created), to_json(c.spec), to_json(c.mounts), c.runtime, c.cgroup_path),
            )
            db.execute("INSERT INTO states (id, intent, state, network) VALUES (?,'creating','{}','{}')", (c.id,))
            _update_state(db, row)

        await self._store.write(insert, durable=False)

    async def set_state(self, row: Row, event: Event | None = None, *, durable: bool = True) -> None:
        """Record intent, state and network settings, and the event of that; ``durable`` as for ``Store.write``."""

        def update(db: sqlite3.Connection) -> None:
            _update_state(db, row)
            _append(db, event)

        await self._store.write(update, durable=durable)

    async def set_container(self, row: Row, event: Event | None = None, *, durable: bool = True) -> None:
        """Record everything of a container that may change: also its name, spec and mounts; and the event of that."""

        def update(db: sqlite3.Connection) -> None:
            c = row.container
            db.execute(
                "UPDATE containers SET name=?, spec=?, mounts=?, runtime=?, cgroup=? WHERE id=?",
                (_name(c), to_json(c.spec), to_json(c.mounts), c.runtime, c.cgroup_path, c.id),
            )
            _update_state(db, row)
            _append(db, event)

        await self._store.write(update, durable=durable)

    async def remove_container(self, id: str, event: Event | None = None, *, durable: bool = True) -> None:
        """Forget a container and its execs, and record the event of that."""

        def remove(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM containers WHERE id=?", (id,))
            _append(db, event)

        await self._store.write(remove, durable=durable)

    async def execs(self) -> list[Exec]:
        """Return all, oldest first."""

        def select(db: sqlite3.Connection) -> list[Exec]:
            found = [_exec(row) for row in db.execute("SELECT * FROM execs ORDER BY created_ns")]
            return [each for each in found if each is not None]

        return await self._store.read(select)

    async def add_exec(self, exec: Exec, created_ns: int) -> None:
        """Record a new exec. No exec outlives the machine, so none of their records waits for the disk."""
        values = (exec.id, exec.container_id, created_ns, to_json(exec.spec))
        await self._store.write(
            lambda db: db.execute("INSERT INTO execs (id, container_id, created_ns, spec) VALUES (?,?,?,?)", values),
            durable=False,
        )

    async def set_exec(self, exec: Exec) -> None:
        """Record how far an exec is; no error if its container is gone."""
        values = (exec.pid, exec.started, exec.exit_code, exec.id)
        with _best_effort("exec", exec.id):
            await self._store.write(
                lambda db: db.execute("UPDATE execs SET pid=?, started=?, exit_code=? WHERE id=?", values),
                durable=False,
            )

    async def remove_exec(self, id: str) -> None:
        """Forget an exec."""
        with _best_effort("exec", id):
            await self._store.write(lambda db: db.execute("DELETE FROM execs WHERE id=?", (id,)), durable=False)

    async def events(self) -> list[Event]:
        """Return the journal, oldest first."""

        def select(db: sqlite3.Connection) -> list[Event]:
            found = [_event(event) for (event,) in db.execute("SELECT event FROM events ORDER BY time_ns, number")]
            return [each for each in found if each is not None]

        return await self._store.read(select)

    async def append_events(self, appended: Iterable[Event]) -> None:
        """Record events; the oldest ones beyond the journal's bound go. Nothing waits for the disk on their account."""
        each = tuple(appended)
        await self._store.write(lambda db: _append(db, *each), durable=False)


@contextmanager
def _best_effort(kind: str, id: str) -> Iterator[None]:
    """Go on without a record that only the next process would read, if the disk has no space for it."""
    try:
        yield
    except NoSpaceError as error:
        log.warning("not recorded", kind=kind, id=id, error=str(error))


def _append(db: sqlite3.Connection, *appended: Event | None) -> None:
    rows = [(event.time_ns, to_json(event)) for event in appended if event is not None]
    if rows:
        db.executemany("INSERT INTO events (time_ns, event) VALUES (?,?)", rows)
        db.execute("DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ?", (events.KEPT,))


def _name(container: Container) -> str:
    """Return what the column has for a name, which is unique there: each owner has names of its own."""
    owner = container.spec.owner
    return f"{owner}/{container.name}" if owner else container.name


def _named(name: str) -> ContainerSpec:
    owner, _, own = name.rpartition("/")
    return ContainerSpec(own, owner=owner)


def _update_state(db: sqlite3.Connection, row: Row) -> None:
    c = row.container
    db.execute(
        "UPDATE states SET intent=?, state=?, network=?, restart_count=?, stopped_by_request=?, removes_volumes=?"
        " WHERE id=?",
        (
            row.intent.value,
            to_json(c.state),
            to_json(c.network),
            c.restart_count,
            row.stopped_by_request,
            row.removes_volumes,
            c.id,
        ),
    )


def _row(row: sqlite3.Row) -> Row:
    try:
        return _read(row)
    except Exception as error:  # noqa: BLE001 - a record is data, and any of its values may be wrong in any way
        fault = f"its record cannot be read: {why(error)}"
        container = Container(
            id=row["id"],
            spec=_named(row["name"]),
            created=datetime.fromtimestamp(0, UTC),
            state=ContainerState(Status.DEAD, error=fault),
            runtime=str(row["runtime"]),
            cgroup_path=str(row["cgroup"]),
        )
        return Row(container, Intent.SETTLED, fault=fault)


def _read(row: sqlite3.Row) -> Row:
    container = Container(
        id=row["id"],
        spec=from_json(ContainerSpec, row["spec"]),
        created=datetime.fromtimestamp(0, UTC) + _since_epoch(row["created_ns"]),
        state=from_json(ContainerState, row["state"]),
        network=from_json(NetworkSettings, row["network"]),
        mounts=from_json(tuple[MountPoint, ...], row["mounts"]),
        restart_count=row["restart_count"],
        runtime=row["runtime"],
        cgroup_path=row["cgroup"],
    )
    return Row(container, Intent(row["intent"]), bool(row["stopped_by_request"]), bool(row["removes_volumes"]))


def _exec(row: sqlite3.Row) -> Exec | None:
    """Return an exec; None for a record that cannot be read: nothing depends on it, and it goes with its container."""
    try:
        return Exec(
            id=row["id"],
            container_id=row["container_id"],
            spec=from_json(ExecSpec, row["spec"]),
            pid=row["pid"],
            started=bool(row["started"]),
            exit_code=row["exit_code"],
        )
    except Exception as error:  # noqa: BLE001 - as for containers
        log.error("record of an exec cannot be read", id=row["id"], reason=why(error))
        return None


def _event(text: str) -> Event | None:
    try:
        return from_json(Event, text)
    except Exception as error:  # noqa: BLE001 - as for containers
        log.error("record of an event cannot be read", reason=why(error))
        return None


def _since_epoch(ns: int) -> timedelta:
    return timedelta(microseconds=ns // _MICROSECOND_NS)


def _ns(moment: datetime) -> int:
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1) * _MICROSECOND_NS
