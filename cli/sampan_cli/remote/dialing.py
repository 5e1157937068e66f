"""Connections to an engine elsewhere: of TCP, of TLS, of ssh; and the requests that begin one.

What is asked first is HTTP/1.1, which answers in sentences. A connection that is to carry gRPC asks for one service
and speaks HTTP/2 with it from there on.
"""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from sampan.errors import InvalidArgumentError, PermissionDeniedError, RemoteError, SampanError, UnavailableError
from sampan.json_types import JsonObject
from sampan_cli.remote.hosts import Host, SshHost, TcpHost, TlsMaterial, UnixHost

_DEADLINE_S: Final = 30.0
_ENOUGH_BYTES: Final = 256 << 10
_MOST_BYTES: Final = 4 << 20  # of an answer
_MOST_WORDS: Final = 2000  # of what ssh says
_SPEAKS_TLS: Final = "HTTP request to an HTTPS server"  # what servers in Go say, and this one


@dataclass(slots=True)
class Wire:
    """One connection: what comes, what goes, and what says why it has ended."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    process: asyncio.subprocess.Process | None = None  # that carries it

    async def why(self) -> str:
        """Return what the process that carries it has to say, having ended; empty: nothing."""
        if self.process is None or self.process.stderr is None:
            return ""
        with suppress(TimeoutError):
            async with asyncio.timeout(2):
                return (await self.process.stderr.read(_MOST_WORDS)).decode(errors="replace").strip()
        return ""

    async def close(self) -> None:
        """Close it; what carries it ends."""
        self.writer.close()
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.terminate()
            await self.process.wait()


class Dialer:
    """Connects to one engine."""

    def __init__(self, host: Host) -> None:
        """Raise InvalidArgumentError for certificates that cannot be used."""
        self.host = host
        self._spare: Wire | None = None  # that an answer has come on, and that may be used once more
        self._context = _context(host.tls) if isinstance(host, TcpHost) and host.tls is not None else None

    async def ask(self, path: str) -> JsonObject:
        """Return the JSON that the engine answers a GET with. The connection is kept for the first tunnel.

        Raises:
            UnavailableError: there is no engine, or none that has anything to do with us; the message says why.
            PermissionDeniedError: it lets nobody in who comes from here.
            RemoteError: it is no engine of ours.
        """
        wire = await self._dial()
        try:
            head = await self._request(wire, f"GET {path} HTTP/1.1\r\nHost: sampan\r\n\r\n")
            body = await self._body(wire, head)
            _check(head, body, 200)
        except BaseException:
            await wire.close()
            raise
        self._spare = wire
        return body

    @asynccontextmanager
    async def tunnel(self, service: str) -> AsyncIterator[Wire]:
        """Yield a connection on which ``service`` speaks HTTP/2. Raises as ``ask``."""
        request = f"POST /grpc/{service} HTTP/1.1\r\nHost: sampan\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        spare, self._spare = self._spare, None
        wire = spare or await self._dial()
        try:
            head = await self._request(wire, request)
            if _status(head) != 101:
                _check(head, await self._body(wire, head), 101)
            yield wire
        finally:
            await wire.close()

    async def close(self) -> None:
        """Let go of what was kept."""
        if self._spare is not None:
            await self._spare.close()

    async def _request(self, wire: Wire, request: str) -> str:
        """Return the head of the answer."""
        try:
            async with asyncio.timeout(_DEADLINE_S):
                wire.writer.write(request.encode())
                await wire.writer.drain()
                return (await wire.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
            raise await self._no_answer(wire, error) from error

    async def _no_answer(self, wire: Wire, error: Exception) -> SampanError:
        said = await wire.why()
        if not said and isinstance(error, ssl.SSLError | TimeoutError):
            said = _in_words(error) if isinstance(error, ssl.SSLError) else "no answer in time"
        return self._unreachable(said or "it hangs up")

    def _unreachable(self, reason: str) -> UnavailableError:
        return UnavailableError(f"cannot connect to the Sampan engine at {self.host}: {reason}")

    async def _body(self, wire: Wire, head: str) -> JsonObject:
        lengths = [line.partition(":")[2] for line in head.split("\r\n") if line.lower().startswith("content-length:")]
        data = b""
        try:
            async with asyncio.timeout(_DEADLINE_S):
                if lengths:
                    data = await wire.reader.readexactly(min(int(lengths[0]), _MOST_BYTES))
                else:
                    data = await wire.reader.read(_MOST_WORDS)
            document = json.loads(data)
        except (OSError, EOFError, TimeoutError, ValueError):
            document = None
        if not isinstance(document, dict):
            said = data.decode(errors="replace").strip()[:_MOST_WORDS]
            if _SPEAKS_TLS in said:
                raise self._unreachable("it speaks TLS: --tlsverify or --tls does so, too")
            raise RemoteError(f"{self.host} answers, and is no Sampan engine: {said}")
        return document

    async def _dial(self) -> Wire:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                return await self._connect()
        except ssl.SSLCertVerificationError as error:
            raise self._unreachable(f"its certificate is refused: {error.verify_message}") from error
        except ssl.SSLError as error:
            raise self._unreachable(_in_words(error)) from error
        except TimeoutError:
            raise self._unreachable("no answer in time") from None
        except PermissionError as error:
            raise PermissionDeniedError(
                f"permission denied while trying to connect to the Sampan engine at {self.host}"
            ) from error
        except OSError as error:  # asyncio's words for one of several addresses have none of the kernel's
            known = error.errno or 0
            raise self._unreachable((os.strerror(known) if known > 0 else str(error)).lower()) from error

    async def _connect(self) -> Wire:
        host = self.host
        if isinstance(host, UnixHost):
            return Wire(*await asyncio.open_unix_connection(host.path, limit=_ENOUGH_BYTES))
        if isinstance(host, TcpHost):
            name = host.host if self._context is not None else None
            opened = asyncio.open_connection(
                host.host, host.port, ssl=self._context, server_hostname=name, limit=_ENOUGH_BYTES
            )
            return Wire(*await opened)
        return await _run_ssh(host)


async def _run_ssh(host: SshHost) -> Wire:
    pipe = asyncio.subprocess.PIPE
    try:
        # A session of its own: Ctrl-C is ours to answer, and not the connection's end.
        process = await asyncio.create_subprocess_exec(
            *host.command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, limit=_ENOUGH_BYTES
        )
    except FileNotFoundError:
        raise UnavailableError(f"{host}: there is no ssh here") from None
    assert process.stdout is not None
    assert process.stdin is not None
    return Wire(process.stdout, process.stdin, process)


def _context(tls: TlsMaterial) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif tls.ca:
            context.load_verify_locations(cafile=tls.ca)
        else:
            context.load_default_certs()
        if tls.cert:
            context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except (OSError, ValueError) as error:
        files = ", ".join(filter(None, (tls.ca if tls.verify else "", tls.cert, tls.key)))
        raise InvalidArgumentError(f"{files}: cannot be used: {_in_words(error)}") from error
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")


def _in_words(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    text = str(reason).replace("_", " ").lower()
    return f"TLS: {text}" if isinstance(error, ssl.SSLError) else text


def _status(head: str) -> int:
    said = head.split(" ", 2)
    return int(said[1]) if len(said) > 1 and said[1].isdecimal() else 0


def _check(head: str, body: JsonObject, wanted: int) -> None:
    status = _status(head)
    if status == wanted:
        return
    message = str(body.get("message") or f"HTTP status {status}")
    if status == 403:
        raise PermissionDeniedError(message)
    if status == 404 and message == "page not found":
        raise RemoteError(
            "this engine lets no gRPC in: it is dockerd, or an older Sampan; the docker command reaches it"
        )
    raise UnavailableError(message)
