"""Sandboxes as rows, and in memory, where all questions are answered."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from crid.model.config import PodConfig
from crid.sandboxes.model import Sandbox, State
from sampan.errors import NotFoundError, SampanError
from sampan.store.database import Store

_COLUMNS: Final = "id, created_ns, state, handler, config, addresses, infra"
_ALL: Final = f"SELECT {_COLUMNS} FROM sandboxes"  # noqa: S608

Decode = Callable[[bytes], PodConfig]


class SandboxStore:
    """All sandboxes. A change outlives the process when it returns, and is seen then.

    Nobody waits for the disk: a power cut ends all sandboxes, and what outlives it, addresses, has records of ``cni``,
    which are waited for.

    ``on_change`` is called with a sandbox as it was and the state that it has come to, None if it is gone.
    """

    def __init__(self, store: Store, decode: Decode) -> None:
        """``decode`` reads a config as it was sent."""
        self._store = store
        self._decode = decode
        self.on_change: Callable[[Sandbox, State | None], None] = lambda _sandbox, _state: None
        self._known: dict[str, Sandbox] = {}

    async def load(self) -> dict[str, str]:
        """Read all; return those that cannot be read, each with the reason."""
        unreadable: dict[str, str] = {}
        for row in await self._store.read(lambda db: db.execute(_ALL).fetchall()):
            found, created_ns, state, handler, config, addresses, infra = row
            try:
                decoded = self._decode(config)
            except (SampanError, ValueError) as error:
                unreadable[found] = str(error)
                continue
            listed = tuple(filter(None, addresses.split(",")))
            self._known[found] = Sandbox(found, decoded, config, created_ns, handler, State(state), listed, infra)
        return unreadable

    def get(self, id: str) -> Sandbox:
        """Return a sandbox, by its ID or an unambiguous beginning of it. Raises NotFoundError."""
        if (known := self._known.get(id)) is not None:
            return known
        found = [each for each in self._known if id and each.startswith(id)]
        if len(found) != 1:
            raise NotFoundError(f"no pod sandbox {id!r}" if not found else f"several pod sandboxes begin with {id!r}")
        return self._known[found[0]]

    def all(self) -> Iterator[Sandbox]:
        """Yield all that there are at this moment, oldest first."""
        yield from list(self._known.values())

    async def add(self, sandbox: Sandbox) -> None:
        """Record a new one."""
        row = (
            sandbox.id,
            sandbox.created_ns,
            sandbox.state.value,
            sandbox.handler,
            sandbox.encoded,
            ",".join(sandbox.addresses),
            sandbox.infra,
        )
        marks = ", ".join("?" * len(row))
        insert = f"INSERT INTO sandboxes ({_COLUMNS}) VALUES ({marks})"  # noqa: S608
        await self._store.write(lambda db: db.execute(insert, row), durable=False)
        self._known[sandbox.id] = sandbox

    async def change(self, sandbox: Sandbox, state: State) -> Sandbox:
        """Record a sandbox as it is, in this state."""
        changed = replace(sandbox, state=state)
        row = (state.value, ",".join(changed.addresses), changed.infra, changed.id)
        await self._store.write(
            lambda db: db.execute("UPDATE sandboxes SET state = ?, addresses = ?, infra = ? WHERE id = ?", row),
            durable=False,
        )
        self._known[changed.id] = changed
        self.on_change(sandbox, state)
        return changed

    async def drop(self, id: str) -> None:
        """Forget one, with the rows of its containers."""

        def delete(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM sandboxes WHERE id = ?", (id,))

        await self._store.write(delete, durable=False)
        if (known := self._known.pop(id, None)) is not None:
            self.on_change(known, None)
