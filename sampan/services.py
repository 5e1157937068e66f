"""Every service of an engine, once: its name, its place in the start order, its port, what others ask of it.

To add a service is to add a row here and a folder ``services/<name>``. Everything else reads this table, or is checked
against it by ``tests/repo/test_services.py``: import contracts, the Prometheus configuration.
"""

import enum
from dataclasses import dataclass
from typing import Final


class Run(enum.Enum):
    """Who starts a service."""

    ALWAYS = "always"  # `sampan up`, in the order of the table; stopped in reverse
    WHEN_ASKED = "when asked"  # `sampan up` listens in its place and starts it for the first who connects
    ON_DEMAND = "on demand"  # a user, with a command of its own


# A service that died is back within a second or two; on a machine that has much else to do it takes that much longer.
# Whoever asks for it meanwhile waits, and is told if it takes longer than this.
RESTART_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class ServiceEntry:
    """One service: a process of its own, with a gRPC socket, a data directory and ``/metrics`` under its name."""

    name: str  # of the package below services/, the sockets, the configuration file and the directories
    metrics_port: int  # on an engine with the default roots; other engines take free ports
    run: Run = Run.ALWAYS
    used_by_engine: bool = False  # sampan.engine calls it; checked for damage in the order of the table
    accounts_for_disk: bool = False  # says itself what is in its data directory (sampan.disk.v1)
    may_be_kept: bool = False  # on demand; `sampan up` starts it too if it is asked to


TABLE: Final = (
    ServiceEntry("imaged", 9661, used_by_engine=True, accounts_for_disk=True),
    ServiceEntry("snapshotter", 9662, used_by_engine=True, accounts_for_disk=True),
    ServiceEntry("runtimed", 9663, used_by_engine=True, accounts_for_disk=True),
    ServiceEntry("buildd", 9666, Run.WHEN_ASKED),
    ServiceEntry("dockerapi", 9664),
    ServiceEntry("registryd", 9665, Run.ON_DEMAND),
    ServiceEntry("crid", 9667, Run.ON_DEMAND, may_be_kept=True),
)

ALL: Final = tuple(entry.name for entry in TABLE)
# Whose the sockets are that systemd passes to the engine.
LISTENER: Final = "dockerapi"
# What `sampan up` keeps: those that run always, and those that do when somebody asks them for something.
STARTED: Final = tuple(entry.name for entry in TABLE if entry.run is not Run.ON_DEMAND)
WHEN_ASKED: Final = tuple(entry.name for entry in TABLE if entry.run is Run.WHEN_ASKED)
# What `sampan up` may keep besides, the last to start.
KEPT: Final = tuple(entry.name for entry in TABLE if entry.may_be_kept)
USED_BY_ENGINE: Final = tuple(entry.name for entry in TABLE if entry.used_by_engine)
ACCOUNTED: Final = frozenset(entry.name for entry in TABLE if entry.accounts_for_disk)
METRICS_PORTS: Final = {entry.name: entry.metrics_port for entry in TABLE}
