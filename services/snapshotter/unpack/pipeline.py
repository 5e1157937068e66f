"""From a layer's blob to verified tar bytes, in threads: inflating and hashing release the GIL and use other cores."""

import hashlib
import os
import queue
import threading
from collections.abc import Callable
from typing import Final

from sampan.errors import DataLossError, InvalidArgumentError
from sampan.tar.inflate import inflate
from snapshotter.workers.threads import Thread

# Between the stages, in pieces of at most 1 MiB: enough that none waits for another's every step.
_PIECES: Final = 16
_READ_BYTES: Final = 256 << 10


class Blob:
    """The compressed bytes from a descriptor, counted and hashed as they pass."""

    def __init__(self, fd: int, digest: str, size: int, advance: Callable[[int], None] = lambda _: None) -> None:
        """Read ``fd``; ``advance`` is told after each piece how far that is."""
        self._fd = fd
        self._advance = advance
        self._digest = digest
        self._size = size
        self._hash = hashlib.sha256()
        self._read = 0

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes. Raises DataLossError as soon as there are more than there should be."""
        piece = os.read(self._fd, size)
        self._hash.update(piece)
        self._read += len(piece)
        if self._read > self._size:
            raise DataLossError(f"blob {self._digest} is longer than the {self._size} bytes its descriptor says")
        self._advance(self._read)
        return piece

    def verify(self) -> None:
        """Read what is left and compare. Raises DataLossError."""
        while self.read(_READ_BYTES):
            pass
        if self._read != self._size:
            raise DataLossError(f"blob {self._digest} has {self._read} bytes, its descriptor says {self._size}")
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            raise DataLossError(f"blob {self._digest} is damaged: its bytes have the digest {found}")


class Pipeline:
    """Uncompressed bytes to read, while threads inflate ahead and hash behind."""

    def __init__(self, blob: Blob, most: int) -> None:
        """Inflate ``blob`` to no more than ``most`` bytes."""
        self._blob = blob
        self._most = most
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_PIECES)
        self._to_hash: queue.Queue[bytes | None] = queue.Queue(_PIECES)
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._piece = memoryview(b"")
        self._ended = False
        self._hash = hashlib.sha256()
        self.size_bytes = 0  # uncompressed, once read to the end
        self._inflater = Thread(self._inflate)
        self._hasher = Thread(self._digest)

    def start(self) -> None:
        """Start the threads. Raises MemoryError."""
        self._inflater.start()
        self._hasher.start()

    def read(self, size: int, /) -> memoryview:
        """Return 1 to ``size`` bytes, none at the end. Raises what stopped the inflating thread."""
        if not self._piece:
            if self._ended:
                return self._piece
            following = self._pieces.get()
            if following is None:
                self._ended = True
                if self._failure is not None:
                    raise self._failure
                return self._piece
            self._piece = memoryview(following)
        piece, self._piece = self._piece[:size], self._piece[size:]
        return piece

    def finish(self) -> str:
        """Verify the blob and return the digest of its uncompressed bytes; all must have been read.

        Raises:
            DataLossError: the blob is not what its descriptor says.
        """
        self._inflater.join()
        self._hasher.join()
        self._blob.verify()
        return f"sha256:{self._hash.hexdigest()}"

    def explain(self, error: Exception) -> Exception:
        """Return why reading failed: that the blob is damaged, if it is, and otherwise ``error``."""
        self._stop.set()
        while self._inflater.is_alive():  # it may be waiting for room
            try:
                self._pieces.get(timeout=0.05)
            except queue.Empty:
                continue
        if isinstance(self._failure, DataLossError):
            return self._failure
        try:
            self._blob.verify()
        except DataLossError as damage:
            return damage
        return error

    def _inflate(self) -> None:
        try:
            for piece in inflate(self._blob):
                if self._stop.is_set():
                    break
                self._to_hash.put(piece)
                self._pieces.put(piece)
                self.size_bytes += len(piece)
                if self.size_bytes > self._most:
                    raise InvalidArgumentError(f"it inflates to more than {self._most} bytes, which is the limit")
        except (DataLossError, InvalidArgumentError, OSError, MemoryError) as error:
            self._failure = error
        finally:
            self._to_hash.put(None)
            self._pieces.put(None)

    def _digest(self) -> None:
        while (piece := self._to_hash.get()) is not None:
            self._hash.update(piece)
