"""Records of containers as rows, and in memory."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

from crid.containers.model import Image, Record
from crid.model.config import ContainerConfig
from sampan.errors import NotFoundError, SampanError
from sampan.store.database import Store

_COLUMNS: Final = "name, container, sandbox, created_ns, config, image_id, image_name, image_ref, log_path"

_ALL: Final = f"SELECT {_COLUMNS} FROM containers"  # noqa: S608


class ContainerStore:
    """All records. A change outlives the process when it returns, and is seen then.

    The disk is waited for once, while a container is started. What a power cut takes of the rest is made good as after
    a SIGKILL: a container without a record is removed, a record without a container is forgotten.
    """

    def __init__(
        self, store: Store, encode: Callable[[ContainerConfig], bytes], decode: Callable[[bytes], ContainerConfig]
    ) -> None:
        """``encode`` and ``decode`` say how a config is kept."""
        self._store = store
        self._encode = encode
        self._decode = decode
        self._records: dict[str, Record] = {}  # by name
        self._names: dict[str, str] = {}  # by ID
        self._new: set[str] = set()  # IDs of those that this process has made, and not started

    async def load(self) -> dict[str, str]:
        """Read all; return those that cannot be read, each with the reason."""
        unreadable: dict[str, str] = {}
        for row in await self._store.read(lambda db: db.execute(_ALL).fetchall()):
            name, container, sandbox, created_ns, config, image_id, image_name, image_ref, log_path = row
            try:
                decoded = self._decode(config)
            except (SampanError, ValueError) as error:
                unreadable[name] = str(error)
                continue
            image = Image(image_id, image_name, image_ref)
            self._keep(Record(name, sandbox, created_ns, decoded, image, log_path, container))
        return unreadable

    def get(self, id: str) -> Record:
        """Return one, by its ID or an unambiguous beginning of it. Raises NotFoundError."""
        if id in self._names:
            return self._records[self._names[id]]
        found = [name for each, name in self._names.items() if id and each.startswith(id)]
        if len(found) != 1:
            raise NotFoundError(f"no container {id!r}" if not found else f"several containers begin with {id!r}")
        return self._records[found[0]]

    def named(self, name: str) -> Record | None:
        """Return the one of a name."""
        return self._records.get(name)

    def all(self) -> Iterator[Record]:
        """Yield all that there are at this moment, also those that are being made."""
        yield from list(self._records.values())

    def of(self, sandbox: str) -> list[Record]:
        """Return those of a sandbox."""
        return [each for each in self._records.values() if each.sandbox == sandbox]

    async def put(self, record: Record, *, durable: bool = False) -> None:
        """Record one, in the place of what its name had."""
        row = (
            record.name,
            record.id,
            record.sandbox,
            record.created_ns,
            self._encode(record.config),
            record.image.id,
            record.image.name,
            record.image.ref,
            record.log_path,
        )
        marks = ", ".join("?" * len(row))
        insert = f"INSERT OR REPLACE INTO containers ({_COLUMNS}) VALUES ({marks})"  # noqa: S608
        await self._store.write(lambda db: db.execute(insert, row), durable=durable)
        self._keep(record)

    async def made(self, record: Record) -> None:
        """Record that a container is there."""
        await self.put(record)
        self._new.add(record.id)

    def is_new(self, record: Record) -> bool:
        """Say whether a container was made by this process, which has not started it; False if nobody knows."""
        return record.id in self._new

    async def starting(self, record: Record) -> None:
        """Note that a container is being started; return when its record outlives the machine's power."""
        self._new.discard(record.id)
        await self.put(record, durable=True)

    async def drop(self, record: Record) -> None:
        """Forget one; safe to repeat."""
        delete = "DELETE FROM containers WHERE name = ?"
        await self._store.write(lambda db: db.execute(delete, (record.name,)), durable=False)
        self._records.pop(record.name, None)
        self._names.pop(record.id, None)
        self._new.discard(record.id)

    async def change(self, record: Record, config: ContainerConfig) -> None:
        """Record another config."""
        await self.put(replace(record, config=config), durable=True)

    def _keep(self, record: Record) -> None:
        self._records[record.name] = record
        if record.id:
            self._names[record.id] = record.name
