"""What runtimed keeps on disk, and who holds it; and of the data root what no service accounts for itself."""

import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from sampan import services
from sampan.disk import CONTAINER, FOREIGN, SERVICE, VOLUME, Holder, StoredObject
from sampan.sys.measuring import measure_any
from sampan.sys.trees import Stop, walking

_ENGINE_LOCK: Final = "engine.lock"

_PAGE: Final = 500


class RuntimeUsage:
    """Looks, and changes nothing."""

    def __init__(self, data_root: Path, own: Path, containers: Callable[[], Mapping[str, str]]) -> None:
        """``containers`` returns the names of all of them, by ID; ``own`` is runtimed's directory."""
        self._data_root = data_root
        self._own = own
        self._containers = containers

    async def objects(self) -> AsyncGenerator[Sequence[StoredObject], None]:
        """Yield everything, as it is allocated on disk."""
        containers = self._containers()
        found = await walking(lambda stop: self._look(containers, stop))
        for first in range(0, len(found), _PAGE):
            yield found[first : first + _PAGE]

    def _look(self, containers: Mapping[str, str], stop: Stop) -> list[StoredObject]:
        objects: list[StoredObject] = []
        bare: list[Path] = [self._own]  # directories whose content is counted by itself
        for path in _inside(self._own):
            if path.name in ("containers", "volumes") and path.is_dir():
                bare.append(path)
                kind = CONTAINER if path.name == "containers" else VOLUME
                objects += [_one(kind, each, containers, stop) for each in _inside(path)]
            else:
                objects.append(_records(path.name, path, "runtimed", stop))
        objects.append(StoredObject("records", "directories", sum(map(_itself, bare)), (Holder(SERVICE, "runtimed"),)))
        return objects + self._rest(stop)

    def _rest(self, stop: Stop) -> list[StoredObject]:
        objects = [StoredObject("records", "data root", _itself(self._data_root), (Holder(SERVICE, "engine"),))]
        for path in _inside(self._data_root):
            if path.name in services.ALL and path.name not in services.ACCOUNTED:
                objects.append(_records(path.name, path, path.name, stop))
            elif path.name == _ENGINE_LOCK:
                objects.append(_records(path.name, path, "engine", stop))
            elif path.name not in services.ACCOUNTED:
                objects.append(StoredObject("foreign", path.name, measure_any(path, stop), (Holder(FOREIGN),)))
        return objects


def _one(kind: str, path: Path, containers: Mapping[str, str], stop: Stop) -> StoredObject:
    """A container's files or a volume; what is made or removed begins with a dot, and goes with the next start."""
    size = measure_any(path, stop)
    if path.name.startswith("."):
        return StoredObject("trash", f"{kind}s/{path.name}", size, (Holder(SERVICE, "runtimed"),))
    if kind == VOLUME:
        return StoredObject(kind, path.name, size, (Holder(VOLUME, path.name),))
    name = containers.get(path.name, "")
    return StoredObject(kind, path.name, size, (Holder(CONTAINER, path.name, (name,) if name else ()),))


def _records(name: str, path: Path, service: str, stop: Stop) -> StoredObject:
    return StoredObject("records", name, measure_any(path, stop), (Holder(SERVICE, service),))


def _inside(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []


def _itself(path: Path) -> int:
    """What a directory takes itself; 0 if it is gone."""
    try:
        return os.lstat(path).st_blocks * 512
    except FileNotFoundError:
        return 0
