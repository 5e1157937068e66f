"""All the addresses that the Docker Engine API is served at beside the engine's own socket."""

import os
from collections.abc import Callable, Sequence

from dockerapi.http.connection import Entrance
from dockerapi.listen import sockets
from dockerapi.listen.addresses import InheritedAddress, TcpAddress, TlsFiles, UnixAddress, Wanted, check_strangers
from dockerapi.listen.certificates import Certificates
from dockerapi.listen.sockets import Inherited, Make, Opened
from dockerapi.listen.tls import TlsListener
from sampan.log import log


class Entrances:
    """Opens them, and closes them."""

    def __init__(
        self, files: TlsFiles, *, allow_unauthenticated: bool, left: Callable[[], None] = lambda: None
    ) -> None:
        """Read the certificates, if there are any. Raises as ``Certificates``.

        ``left`` is called when a client of TLS has gone.
        """
        self._files = files
        self._left = left
        self._allow_unauthenticated = allow_unauthenticated
        self._certificates = Certificates(files) if files.wanted else None
        self._opened: list[Opened] = []
        self._handshakes: list[TlsListener] = []

    async def open(self, wanted: Sequence[Wanted], make: Callable[[Entrance], Make]) -> None:
        """Serve at all of them, or at none. ``make`` returns what speaks HTTP there.

        Raises:
            InvalidArgumentError: a socket that systemd passed would let strangers in.
            ConflictError, NotFoundError: an address cannot be had.
        """
        given = sockets.inherited(os.environ)
        used: list[Inherited] = []
        try:
            for one in wanted:
                protocols = make(one.entrance)
                if isinstance(one.address, InheritedAddress):
                    for each in sockets.choose(one.address, given):
                        await self._open_inherited(each, protocols)
                        used.append(each)
                else:
                    await self._open(one.address, one.group, protocols)
                log.info("listening", address=str(one.address), tls=self._certificates is not None)
        except BaseException:
            self.close()
            raise
        sockets.tell_unused(given, used)

    async def _open(self, address: UnixAddress | TcpAddress, group: str, make: Make) -> None:
        if isinstance(address, UnixAddress):
            self._opened.append(await sockets.open_unix(address, group, make))
            return
        allowed = self._allow_unauthenticated
        opened = await sockets.open_tcp(address, self._files, self._inside_tls(make), allow_unauthenticated=allowed)
        self._opened.append(opened)

    async def _open_inherited(self, one: Inherited, make: Make) -> None:
        check_strangers(
            f"fd://{one.name}", loopback=one.is_loopback, files=self._files, allowed=self._allow_unauthenticated
        )
        self._opened.append(await sockets.open_inherited(one, self._inside_tls(make) if one.is_tcp else make))

    def _inside_tls(self, make: Make) -> Make:
        if self._certificates is None:
            return make
        listener = TlsListener(self._certificates, make, self._left)
        self._handshakes.append(listener)
        return listener

    def reload(self, files: TlsFiles) -> None:
        """Read the certificates again, perhaps from other files; connections that are there keep theirs."""
        if self._certificates is not None and files.wanted:
            self._certificates.reload(files)

    def close(self) -> None:
        """Accept nobody any more."""
        for opened in self._opened:
            opened.close()
        for listener in self._handshakes:
            listener.close()
