"""Send a container's output to a receiver elsewhere, in a thread of its own: receivers are slow, or away for a while.

What a receiver has taken is noted. One that is away is tried again and again while the output waits in the spool, so
nothing is lost, unless the options bound the tries; after a kill at most one batch comes twice. In the mode
``non-blocking`` only as much waits as the buffer holds, and the oldest beyond that goes.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final

from runtimed.logs.drivers.choice import make_driver
from runtimed.logs.drivers.driver import Shipping
from runtimed.logs.spool import Cursor
from sampan.docker.options.log_receivers import patience

_BATCH_BYTES: Final = 64 << 10
_SPOOL_RETRY_S: Final = 5.0
_CLOSING_S: Final = 3.0


class Shipper:
    """The thread that sends one container's output."""

    def __init__(
        self,
        id: str,
        cursor: Cursor,
        plan: Shipping,
        warn: Callable[[str, str], None],
        noted: Callable[[], None],
    ) -> None:
        """``noted`` is called, in the thread, when something was sent."""
        self.cursor = cursor
        self._id = id
        self._buffer_bytes = plan.buffer_bytes
        self._driver = make_driver(plan)
        self._patience = patience(plan.driver, plan.options)
        self._warn = warn
        self._noted = noted
        self._ended = False
        self._closed = threading.Event()
        self._woken = threading.Event()
        self._away = False
        self._thread = threading.Thread(target=self._run, name=f"ship-{id[:12]}", daemon=True)
        self._thread.start()

    def wake(self, *, ended: bool) -> None:
        """There may be more; with ``ended`` nothing comes after it."""
        self._ended = ended
        self._woken.set()

    def _run(self) -> None:
        while not self._closed.is_set():
            self._woken.clear()
            try:
                more = self._step()
            except OSError as error:  # not the receiver's: the spool's
                self._warn(self._id, f"log is not sent: {error}")
                self._closed.wait(_SPOOL_RETRY_S)
                continue
            if more:
                self._noted()
            else:
                self._woken.wait()

    def _step(self) -> bool:
        """Send a batch; return False if there is none for now."""
        if self._buffer_bytes and self.cursor.backlog_bytes > self._buffer_bytes + _BATCH_BYTES:
            left_out = self.cursor.skip_to(self._buffer_bytes)
            self._warn(self._id, f"{left_out} bytes of output were not sent: the receiver is too slow")
        lines = self.cursor.read(ended=self._ended, limit_bytes=_BATCH_BYTES)
        if lines is None:
            return False
        records = [record for stretch in lines.records for record in stretch.records()]
        if records and not self._sent(records):
            self.cursor.again()
            return True  # closed, or left out meanwhile
        self.cursor.note(lines.after)
        return True

    def _sent(self, records: Sequence[bytes]) -> bool:
        pause_s, failed = self._patience.first_pause_s, 0
        while not self._closed.is_set():
            try:
                self._driver.send(records)
            except OSError as error:
                self._driver.abort()
                if not self._away:
                    self._away = True
                    self._warn(self._id, f"receiver of the log is away: {error}")
                failed += 1
                if failed > self._patience.tries > 0:
                    self._warn(self._id, f"{len(records)} lines were not sent: {failed} tries have failed")
                    return True
                self._closed.wait(pause_s)
                pause_s = min(pause_s * 2, self._patience.last_pause_s)
                if self._buffer_bytes and self.cursor.backlog_bytes > self._buffer_bytes + _BATCH_BYTES:
                    return False
                continue
            self._away = False
            return True
        return False

    def close(self) -> None:
        """End the thread; what was not sent stays in the spool."""
        self._closed.set()
        self._woken.set()
        self._driver.abort()
        self._thread.join(_CLOSING_S)
        self.cursor.close()
