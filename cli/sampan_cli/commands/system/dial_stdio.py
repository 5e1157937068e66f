"""``sampan system dial-stdio``: the engine's Docker API over standard input and output, for clients behind ssh."""

import os
import socket
import threading
from contextlib import suppress
from typing import Final

import click

from sampan_cli.app.lazy import sampan_command
from sampan_cli.app.session import CommandError, Session

_PIECE_BYTES: Final = 1 << 16


@sampan_command("dial-stdio", examples="ssh root@there sampan system dial-stdio")
@click.pass_obj
def command(session: Session, /) -> None:
    """Proxy the standard streams to the engine's Docker API. Not meant to be called by hand."""
    from sampan_cli.remote.hosts import UnixHost

    if session.elsewhere is not None and not isinstance(session.elsewhere, UnixHost):
        session.here("system dial-stdio")
    path = session.elsewhere.path if isinstance(session.elsewhere, UnixHost) else session.layout.docker_socket
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError as error:
            raise CommandError(f"cannot connect to {path}: {error.strerror}: is the engine running?") from error
        # It may wait for input for ever: what ends the connection is the engine's end of it.
        threading.Thread(target=_send, args=(connection,), name="stdin", daemon=True).start()
        _receive(connection)


def _send(connection: socket.socket) -> None:
    with suppress(OSError):  # the engine has hung up, which the other direction finds out, too
        while piece := os.read(0, _PIECE_BYTES):
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)


def _receive(connection: socket.socket) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        while piece := connection.recv(_PIECE_BYTES):
            while piece:
                piece = piece[os.write(1, piece) :]
