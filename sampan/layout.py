"""Where an engine keeps its things. Everything follows from two directories, so engines live side by side.

<data-root>/<service>/     what must survive a reboot
<run-root>/<service>/      what must not
<run-root>/<service>.sock  gRPC
<run-root>/imaged.blobs.sock  open files of blobs
<run-root>/<service>.hand.sock  descriptors that are handed over to it
<run-root>/runtimed.streams.sock  output of processes, as descriptors
<run-root>/<service>.json  who runs there: pid, socket, metrics address
<run-root>/docker.sock     the Docker Engine API, and the gate for gRPC
<run-root>/gate            gRPC comes in by the gate alone
<run-root>/cli.sock        commands of the command line: see ``sampan_cli.warm``
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgumentError
from sampan.sys.closed import DATA_ROOT, RUN_ROOT

DEFAULT_DATA_ROOT: Final = Path("/var/lib/sampan")
DEFAULT_RUN_ROOT: Final = Path("/run/sampan")

# sun_path is 108 bytes with its NUL. Under the run root the longest socket is an attach socket of conmon's,
# "runtimed/attach/<16 hex>/attach".
_MAX_SOCKET_PATH: Final = 107
_LONGEST_BELOW_RUN_ROOT: Final = len("/runtimed/attach/0123456789abcdef/attach")


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths and names of one engine. Both roots are absolute."""

    data_root: Path = DEFAULT_DATA_ROOT
    run_root: Path = DEFAULT_RUN_ROOT
    # Where an engine has them that is reached over a connection: what it tells of them is then laid out in ours.
    there: "Layout | None" = None

    @property
    def own(self) -> "Layout":
        """The directories as the engine itself has them."""
        return self.there or self

    def check(self) -> None:
        """Raise InvalidArgumentError if a socket below the run root could not be bound."""
        most = _MAX_SOCKET_PATH - _LONGEST_BELOW_RUN_ROOT
        size = len(bytes(self.run_root))
        if size > most:
            raise InvalidArgumentError(
                f"run root {self.run_root} is {size} bytes long, the most is {most}: choose a shorter path"
            )

    def data(self, service: str) -> Path:
        """The service's durable directory."""
        return self.data_root / service

    def run(self, service: str) -> Path:
        """The service's volatile directory."""
        return self.run_root / service

    def unfinished(self, service: str) -> Path:
        """Is there while a service runs that is started when it is asked, and after it was killed."""
        return self.data(service) / "unfinished"

    def empty(self, service: str) -> Path:
        """Is there while such a service does not run, has come to its end in order and has nothing on disk."""
        return self.data(service) / "empty"

    def is_empty(self, service: str) -> bool:
        """Whether a service that is started when it is asked has nothing, so that it need not be. Blocks, not for long.

        False as well if that cannot be told from here: by somebody who may not look, or of an engine elsewhere.
        """
        with contextlib.suppress(OSError):
            return self.there is None and (self.empty(service).exists() or not self.data(service).exists())
        return False

    def socket(self, service: str) -> Path:
        """The service's gRPC socket."""
        return self.run_root / f"{service}.sock"

    def desk(self, service: str) -> Path:
        """The socket where the service takes descriptors, see ``sampan.handing``."""
        return self.run_root / f"{service}.hand.sock"

    def state_file(self, service: str) -> Path:
        """Where the running service says who it is."""
        return self.run_root / f"{service}.json"

    def problems(self, service: str) -> list[str]:
        """What the running service says should be looked after, as a disk that is full; blocks."""
        try:
            facts = json.loads(self.state_file(service).read_text())
        except (OSError, ValueError):  # it does not run, or we may not know
            return []
        return [str(problem) for problem in facts.get("problems", ())]

    @property
    def data_root_mode(self) -> int:
        """How far the data root is open: sockets that are below it must stay within reach."""
        return RUN_ROOT if self.run_root.is_relative_to(self.data_root) else DATA_ROOT

    @property
    def blobs_socket(self) -> Path:
        """Where imaged hands out the open file of a blob: see ``imaged.content.fd_passing``."""
        return self.run_root / "imaged.blobs.sock"

    @property
    def streams_socket(self) -> Path:
        """Where runtimed hands over a process's output: see ``runtimed.wire.handing``."""
        return self.run_root / "runtimed.streams.sock"

    @property
    def docker_socket(self) -> Path:
        """The Docker Engine API's socket."""
        return self.run_root / "docker.sock"

    @property
    def gate_marker(self) -> Path:
        """Is there while services are reached through dockerapi's gate alone, so that all of it is on record."""
        return self.run_root / "gate"

    @property
    def is_default(self) -> bool:
        """Whether this is the machine's main engine."""
        return self.run_root == DEFAULT_RUN_ROOT and self.data_root == DEFAULT_DATA_ROOT

    @property
    def tag(self) -> str:
        """What tells this engine's kernel objects from another's: empty for the default roots, else 8 hex digits."""
        if self.is_default:
            return ""
        import hashlib  # brings OpenSSL: 3 MB in every process that wants no more than a path

        return hashlib.sha256(f"{self.data_root}\0{self.run_root}".encode()).hexdigest()[:8]

    @property
    def kernel_name(self) -> str:
        """Prefix for names in the kernel (nftables table, cgroup parent): ``sampan`` or ``sampan-<tag>``."""
        return f"sampan-{self.tag}" if self.tag else "sampan"
