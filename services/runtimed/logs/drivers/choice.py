"""The drivers that send, by name; and whether their receivers are there when a container starts."""

import socket
from collections.abc import Mapping

from runtimed.logs.drivers.connection import Connection, describe
from runtimed.logs.drivers.driver import Driver, Shipping
from sampan.docker.booleans import SPELLINGS
from sampan.docker.options.log_receivers import fluentd_receiver, gelf_receiver


def make_driver(plan: Shipping) -> Driver:
    """Return the driver for ``plan``, which has not looked for its receiver yet."""
    # Each is imported when it is first used: their libraries are not for those who use others.
    match plan.driver:
        case "syslog":
            from runtimed.logs.drivers.syslog import Syslog

            return Syslog(plan)
        case "gelf":
            from runtimed.logs.drivers.gelf import Gelf

            return Gelf(plan)
        case "fluentd":
            from runtimed.logs.drivers.fluentd import Fluentd

            return Fluentd(plan)
        case _:
            from runtimed.logs.drivers.journald import Journald

            return Journald(plan)


def look_for_receiver(driver: str, options: Mapping[str, str], timeout_s: float) -> None:
    """Look once whether the receiver answers; one that is sent datagrams, or is waited for, cannot be told.

    Raises:
        OSError: it does not, with dockerd's words.
    """
    match driver:
        case "syslog":
            from runtimed.logs.drivers.syslog import syslog_connection

            connection = syslog_connection(options)
        case "gelf":
            connection = Connection(gelf_receiver(options))
        case "fluentd":
            if any(SPELLINGS.get(options.get(name, "")) for name in ("fluentd-async", "fluentd-async-connect")):
                return
            connection = Connection(fluentd_receiver(options))
        case "journald":
            from runtimed.logs.drivers.journald import SOCKET

            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
                try:
                    journal.connect(SOCKET)
                except OSError as error:
                    raise OSError(error.errno, "journald is not enabled on this host") from error
            return
        case _:
            return
    try:
        connection.open(timeout_s)
    except OSError as error:
        why = f"dial {describe(connection.receiver)}: {_reason(error)}"
        if driver == "gelf":
            why = f"gelf: cannot connect to GELF endpoint: {connection.receiver.host}:{connection.receiver.port} {why}"
        raise OSError(error.errno, why) from error
    finally:
        connection.close()


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if isinstance(error, socket.gaierror):
        return "lookup: no such host"
    return f"connect: {(error.strerror or str(error)).lower()}"
