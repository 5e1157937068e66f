"""Open the addresses of the configuration: unix sockets, TCP ports, and sockets that systemd has opened."""

import asyncio
import os
import socket
import stat
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dockerapi.listen.addresses import InheritedAddress, TcpAddress, TlsFiles, UnixAddress, check_strangers, is_loopback
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from sampan.log import log
from sampan.sys.closed import share

_BACKLOG: Final = 512

# The first descriptor of sd_listen_fds(3).
_FIRST_FD: Final = 3

# A client that has left without a word is found out: the kernel asks after so many seconds, and three times.
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))

Make = Callable[[], asyncio.Protocol]


@dataclass(slots=True)
class Opened:
    """One address that is served; ``close`` ends that."""

    servers: list[asyncio.Server] = field(default_factory=list)
    path: Path | None = None  # of a socket that is ours to remove
    made: tuple[int, int] = (0, 0)  # which file that is

    def close(self) -> None:
        """Accept nobody any more, and remove the socket, if it is still ours."""
        for server in self.servers:
            server.close()
        if self.path is not None and _identity(self.path) == self.made:
            self.path.unlink(missing_ok=True)


async def open_unix(address: UnixAddress, group: str, make: Make) -> Opened:
    """Serve at a unix socket that its owner and ``group`` may use; one that nobody answers at is replaced.

    Raises:
        ConflictError: somebody answers there, or something else is there.
        NotFoundError: its directory is not there.
    """
    path = address.path
    _make_room(path)
    previous = os.umask(0o117)
    try:
        server = await asyncio.get_running_loop().create_unix_server(make, path, backlog=_BACKLOG)
    except FileNotFoundError:
        raise NotFoundError(f"listen: {address}: there is no directory {path.parent}") from None
    except OSError as error:
        raise ConflictError(f"listen: {address}: {os.strerror(error.errno or 0).lower()}") from error
    finally:
        os.umask(previous)
    share(path, group)
    return Opened([server], path, _identity(path))


def _make_room(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConflictError(f"listen: unix://{path}: something else is there, which is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)  # of a process that was killed
            return
        except OSError:
            pass
    raise ConflictError(f"listen: unix://{path}: another program answers there already")


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.lstat()
    except OSError:
        return (0, 0)
    return found.st_dev, found.st_ino


async def open_tcp(address: TcpAddress, files: TlsFiles, make: Make, *, allow_unauthenticated: bool) -> Opened:
    """Serve at a TCP port.

    Raises:
        ConflictError: the port is taken, or the address is not this machine's.
        InvalidArgumentError: the name is not loopback's, as ``addresses.check_strangers`` has it.
    """
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            make, address.host or None, address.port, backlog=_BACKLOG, start_serving=False
        )
    except OSError as error:
        reason = os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)
        raise ConflictError(f"listen: {address}: {reason}") from error
    try:
        for each in server.sockets:
            loopback = is_loopback(str(each.getsockname()[0]))
            check_strangers(address, loopback=loopback, files=files, allowed=allow_unauthenticated)
            keep_alive(each)
        await server.start_serving()
    except BaseException:
        server.close()
        raise
    return Opened([server])


def keep_alive(listener: socket.socket | TransportSocket) -> None:
    """Have the kernel look after idle connections; they have it from their listener."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        listener.setsockopt(socket.IPPROTO_TCP, option, value)


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket that the process was started with."""

    name: str  # FileDescriptorName= of its systemd unit, or its number
    socket: socket.socket

    @property
    def is_tcp(self) -> bool:
        """Whether it is reached over a network."""
        return self.socket.family != socket.AF_UNIX

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine gets there."""
        return not self.is_tcp or is_loopback(str(self.socket.getsockname()[0]))


def inherited(environ: Mapping[str, str]) -> list[Inherited]:
    """Return the sockets of sd_listen_fds(3). They may have been passed to the supervisor, who has passed them on.

    Raises:
        InvalidArgumentError: one is no listening socket.
    """
    count, pid = environ.get("LISTEN_FDS", ""), environ.get("LISTEN_PID", "")
    if not count.isdigit() or pid not in (str(os.getpid()), str(os.getppid())):
        return []
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found = []
    for index in range(int(count)):
        fd = _FIRST_FD + index
        try:
            os.set_inheritable(fd, False)
            one = socket.socket(fileno=fd)
            listens = one.type == socket.SOCK_STREAM and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise InvalidArgumentError(f"listen: fd://{fd}: {(error.strerror or str(error)).lower()}") from error
        if not listens or one.family not in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6):
            raise InvalidArgumentError(f"listen: fd://{fd}: not a listening stream socket")
        one.setblocking(False)
        found.append(Inherited(names[index] if index < len(names) and names[index] else str(fd), one))
    return found


def choose(address: InheritedAddress, given: list[Inherited]) -> list[Inherited]:
    """Return the sockets that ``fd://…`` means.

    Raises:
        NotFoundError: in dockerd's words, there is none.
    """
    if not given:
        raise NotFoundError("no sockets found via socket activation: make sure the service was started by systemd")
    wanted = [one for one in given if not address.which or address.which in (one.name, str(one.socket.fileno()))]
    if not wanted:
        names = ", ".join(one.name for one in given)
        raise NotFoundError(f"listen: {address}: no such socket was passed, only {names}")
    return wanted


async def open_inherited(one: Inherited, make: Make) -> Opened:
    """Serve at a socket that the process was started with; it stays, for the next process, when this one ends."""
    loop = asyncio.get_running_loop()
    if one.is_tcp:
        keep_alive(one.socket)
        return Opened([await loop.create_server(make, sock=one.socket, backlog=_BACKLOG)])
    return Opened([await loop.create_unix_server(make, sock=one.socket, backlog=_BACKLOG)])


def tell_unused(given: list[Inherited], used: list[Inherited]) -> None:
    """Log the sockets that systemd has passed and nothing was said of."""
    for one in given:
        if one not in used:
            log.warning("socket not served: listen does not name it", socket=one.name)
