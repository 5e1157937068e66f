"""Notice when somebody else changes the firewall in a way that cuts containers off.

Reloading nftables' configuration begins with ``flush ruleset``, which takes our table with it; dockerd and ufw close
iptables' FORWARD when they start. The kernel tells of each change on a netlink socket.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Final

from runtimed.network.kernel.netlink import HEADER, attributes
from sampan.errors import SampanError
from sampan.log import log

NETLINK_NETFILTER: Final = 12
NFNLGRP_NFTABLES: Final = 7
NFNL_SUBSYS_NFTABLES: Final = 10
NFT_MSG_NEWTABLE: Final = 0
NFT_MSG_DELTABLE: Final = 2
NFT_MSG_NEWCHAIN: Final = 3
NFTA_TABLE_NAME: Final = 1
NFTA_CHAIN_TABLE: Final = 1
NFTA_CHAIN_NAME: Final = 3

_SUBJECT: Final = struct.Struct("!BBH")  # struct nfgenmsg: family, version, resource
_RECEIVE_BYTES: Final = 1 << 16
_SETTLE_S: Final = 0.5  # a reload is a burst of changes; repair what it leaves, once


class Guard:
    """Watches one table of family ip, and iptables' FORWARD chain."""

    def __init__(self, table: str, repair: Callable[[], Awaitable[None]]) -> None:
        """``repair`` is called some time after the table went away for good, or FORWARD changed."""
        self._table = table
        self._repair = repair
        self._missing = False
        self._changed = False
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._socket: socket.socket | None = None

    def start(self) -> None:
        """Watch from now on."""
        sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_NETFILTER
        )
        sock.bind((0, 1 << (NFNLGRP_NFTABLES - 1)))
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._read)

    async def close(self) -> None:
        """Stop watching, and end a repair that is under way. Safe to repeat."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def _read(self) -> None:
        if self._socket is None:
            return
        try:
            while True:
                self.observe(self._socket.recv(_RECEIVE_BYTES))
        except BlockingIOError:
            pass
        except OSError:  # ENOBUFS: more happened than we were told of
            self._changed = True
        if (self._missing or self._changed) and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SETTLE_S, self._settled)

    def observe(self, blob: bytes) -> None:
        """Take note of what a batch of messages says."""
        offset = 0
        while offset + HEADER.size <= len(blob):
            size, kind, _, _, _ = HEADER.unpack_from(blob, offset)
            body = blob[offset + HEADER.size : offset + size]
            offset += max(size, HEADER.size) + (-size % 4)
            if kind >> 8 == NFNL_SUBSYS_NFTABLES and len(body) >= _SUBJECT.size and body[0] == socket.AF_INET:
                self._note(kind & 0xFF, body[_SUBJECT.size :])

    def _note(self, message: int, body: bytes) -> None:
        facts = {key: value.rstrip(b"\0").decode(errors="replace") for key, value in attributes(body)}
        if message in (NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE) and facts.get(NFTA_TABLE_NAME) == self._table:
            # Replacing the table, as we do ourselves, is a removal followed by a new one.
            self._missing = message == NFT_MSG_DELTABLE
        elif message == NFT_MSG_NEWCHAIN:
            self._changed |= (facts.get(NFTA_CHAIN_TABLE), facts.get(NFTA_CHAIN_NAME)) == ("filter", "FORWARD")

    @property
    def alarmed(self) -> bool:
        """Whether there is something to repair."""
        return self._missing or self._changed

    def _settled(self) -> None:
        self._timer = None
        if self.alarmed and (self._task is None or self._task.done()):
            log.warning("the firewall was changed by somebody else: putting our rules back", table=self._table)
            self._missing = self._changed = False
            self._task = asyncio.create_task(self._mend(), name="firewall repair")

    async def _mend(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await self._repair()
            except SampanError as error:
                log.error("our rules could not be put back", error=str(error))
