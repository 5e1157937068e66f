"""Notice when somebody else changes the firewall in a way that opens or cuts off containers, and undo it.

Reloading nftables' configuration begins with ``flush ruleset``, which takes our table with it; dockerd and ufw close
iptables' FORWARD when they start, ``iptables -F`` takes our rules out of it; and a rule, a chain or an element of a set
can go alone. The kernel tells of each change on a netlink socket, and from whose socket it came.

Our own table is put back at once, by a thread that waits for nothing else: until then containers are as open to each
other as the machine's own rules let them be. The rest follows when the burst of changes is over.
"""

import asyncio
import contextlib
import os
import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from runtimed.network.kernel.netlink import HEADER, attributes
from sampan.errors import SampanError
from sampan.log import log

NETLINK_NETFILTER: Final = 12
NFNLGRP_NFTABLES: Final = 7
NFNL_SUBSYS_NFTABLES: Final = 10
NFT_MSG_NEWCHAIN: Final = 3
NFT_MSG_NEWRULE: Final = 6
NFT_MSG_DELRULE: Final = 8
NFT_MSG_NEWGEN: Final = 15
NFTA_TABLE_NAME: Final = 1  # of every message but NEWGEN: tables, chains, rules, sets and elements alike
NFTA_CHAIN_NAME: Final = 3
NFTA_RULE_CHAIN: Final = 2

_CHAIN_NAME: Final = {
    NFT_MSG_NEWCHAIN: NFTA_CHAIN_NAME,
    NFT_MSG_NEWRULE: NFTA_RULE_CHAIN,
    NFT_MSG_DELRULE: NFTA_RULE_CHAIN,
}
_SUBJECT: Final = struct.Struct("!BBH")  # struct nfgenmsg: family, version, resource
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
_RECEIVE_BYTES: Final = 1 << 16
_SETTLE_S: Final = 0.5  # a reload is a burst of changes; see to the rest of what it leaves once
_BURST: Final = 100  # repairs at once in a second; who goes on like that is answered at the slower pace


class Table(Protocol):
    """Our table; ``nftables.Nftables``."""

    def again(self) -> None:
        """Apply once more what was applied last. Raises StartError."""

    def is_own(self, port: int) -> bool:
        """Say whether a netlink socket of ours has this port ID."""


class Guard:
    """Watches the tables of one name, of families ip and ip6, and the FORWARD chains of iptables and ip6tables."""

    def __init__(self, name: str, table: Table, repair: Callable[[], Awaitable[None]]) -> None:
        """``repair`` is called when things have settled after the table or FORWARD was changed by others."""
        self._name = name
        self._table = table
        self._repair = repair
        self._damaged = False
        self._changed = False
        self._repaired: deque[float] = deque(maxlen=_BURST)
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop = -1

    def start(self) -> None:
        """Watch from now on."""
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        sock.setblocking(False)
        sock.bind((0, 1 << (NFNLGRP_NFTABLES - 1)))
        self._loop = asyncio.get_running_loop()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._watch, args=(sock, self._stop), name="nftables-guard", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        """Stop watching, and end a repair that is under way. Safe to repeat."""
        if self._thread is not None:
            os.eventfd_write(self._stop, 1)
            await asyncio.to_thread(self._thread.join)
            os.close(self._stop)
            self._thread = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _watch(self, sock: socket.socket, stop: int) -> None:
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        poll.register(stop, select.POLLIN)
        with sock:
            while True:
                if any(fd == stop for fd, _ in poll.poll()):
                    return
                self._read(sock)
                if self._damaged and not self._too_often():
                    self._put_back()
                if self.alarmed and self._loop is not None:
                    with contextlib.suppress(RuntimeError):  # the loop is closed
                        self._loop.call_soon_threadsafe(self._alarm)

    def _read(self, sock: socket.socket) -> None:
        try:
            while True:
                self.observe(sock.recv(_RECEIVE_BYTES))
        except BlockingIOError:
            pass
        except OSError:  # ENOBUFS: more happened than we were told of
            self._damaged = self._changed = True

    def _too_often(self) -> bool:
        return len(self._repaired) == _BURST and time.monotonic() - self._repaired[0] < 1

    def _put_back(self) -> None:
        self._repaired.append(time.monotonic())
        try:
            self._table.again()
        except SampanError as error:
            log.error("our rules could not be put back at once", error=str(error))
        else:
            self._damaged = False
            self._changed = True  # have it looked at once more when all is quiet

    def observe(self, blob: bytes) -> None:
        """Take note of what a batch of messages says."""
        offset = 0
        while offset + HEADER.size <= len(blob):
            size, kind, _, _, port = HEADER.unpack_from(blob, offset)
            body = blob[offset + HEADER.size : offset + size]
            offset += max(size, HEADER.size) + (-size % 4)
            if kind >> 8 == NFNL_SUBSYS_NFTABLES and len(body) >= _SUBJECT.size and body[0] in _FAMILIES:
                self._note(kind & 0xFF, body[_SUBJECT.size :], port)

    def _note(self, message: int, body: bytes, port: int) -> None:
        if message == NFT_MSG_NEWGEN:
            return
        facts = dict(attributes(body))
        table = _text(facts.get(NFTA_TABLE_NAME))
        if table == self._name:
            self._damaged = self._damaged or not self._table.is_own(port)
        elif table == "filter" and message in _CHAIN_NAME:
            # A policy, or a rule before or among ours; not one of ours that comes, which bears our name.
            forward = _text(facts.get(_CHAIN_NAME[message])) == "FORWARD"
            ours = message == NFT_MSG_NEWRULE and self._name.encode() + b"\0" in body
            self._changed = self._changed or (forward and not ours)

    @property
    def alarmed(self) -> bool:
        """Whether there is something to repair."""
        return self._damaged or self._changed

    # -- in the loop ---------------------------------------------------------------------------------------------------

    def _alarm(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SETTLE_S, self._settled)

    def _settled(self) -> None:
        self._timer = None
        if not self.alarmed:
            return
        if self._task is not None and not self._task.done():
            self._alarm()
            return
        log.warning("the firewall was changed by somebody else: seeing to our rules", table=self._name)
        self._damaged = self._changed = False
        self._task = asyncio.get_running_loop().create_task(self._restore(), name="firewall repair")

    async def _restore(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await self._repair()
            except SampanError as error:
                log.error("our rules could not be put back", error=str(error))


def _text(value: bytes | None) -> str:
    return (value or b"").rstrip(b"\0").decode(errors="replace")
