"""Notice that a client is gone although nobody reads from it.

After a client has half-closed its side (the end of stdin) a read can say nothing new, and asyncio stops looking. But
epoll reports EPOLLHUP, unasked, once both directions are shut, and that is what a vanished client looks like.
"""

import asyncio
import contextlib
import select
from collections.abc import Callable


def hung_up(fd: int) -> bool:
    """Whether the other side of a socket is closed altogether and not just half."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


class HangupWatch:
    """Calls back when a watched socket hangs up. One epoll descriptor, which itself is a member of the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll = select.epoll(flags=select.EPOLL_CLOEXEC)
        self._callbacks: dict[int, Callable[[], None]] = {}
        loop.add_reader(self._epoll.fileno(), self._ready)

    def add(self, fd: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` once when ``fd`` hangs up; it must be removed before it is closed."""
        self._epoll.register(fd, 0)  # EPOLLHUP and EPOLLERR come without being asked for
        self._callbacks[fd] = callback

    def remove(self, fd: int) -> None:
        """Stop watching; safe to repeat."""
        if self._callbacks.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def close(self) -> None:
        """Stop watching everything."""
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._callbacks.clear()

    def _ready(self) -> None:
        for fd, _ in self._epoll.poll(0):
            callback = self._callbacks.get(fd)
            self.remove(fd)
            if callback is not None:
                callback()
