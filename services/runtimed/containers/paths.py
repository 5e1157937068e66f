"""Where runtimed keeps what belongs to a container."""

from dataclasses import dataclass
from pathlib import Path

from sampan.sys.closed import make_closed


@dataclass(frozen=True, slots=True)
class Paths:
    """runtimed's directories: ``data`` survives a reboot, ``run`` does not."""

    data: Path
    run: Path

    @property
    def exits(self) -> Path:
        """Where conmon writes exit codes, one file per container. conmon unlinks ``<exits>/<id>`` when it starts."""
        return self.run / "exits"

    @property
    def sockets(self) -> Path:
        """Where conmon links ``<token>`` to a bundle, for a short path to its attach socket."""
        return self.run / "attach"

    @property
    def bundles(self) -> Path:
        """One bundle per running container."""
        return self.run / "bundles"

    @property
    def execs(self) -> Path:
        """One directory per exec that was started."""
        return self.run / "execs"

    @property
    def steps(self) -> Path:
        """One bundle per step of a build that runs."""
        return self.run / "steps"

    @property
    def step_snapshots(self) -> Path:
        """Where snapshots are mounted that steps of builds use, each once."""
        return self.run / "step-snapshots"

    @property
    def step_scratch(self) -> Path:
        """What steps of builds write and nobody keeps, one directory per step: more than fits in memory."""
        return self.data / "steps"

    @property
    def containers(self) -> Path:
        """One durable directory per container."""
        return self.data / "containers"

    @property
    def archives(self) -> Path:
        """An empty directory, on which the workers of ``cp`` mount what they see, each in a namespace of its own.

        It hides nothing that a path of the host may have to lead to: that would be looked for in the container.
        """
        return self.run / "archives"

    @property
    def roots(self) -> Path:
        """Where the roots of containers with user namespaces are mounted once more, for runtimes to reach as users."""
        return self.run.parent / "roots"

    @property
    def layers(self) -> Path:
        """Where their layers are mounted for a moment; a short path, as there may be many of them."""
        return self.run.parent / "i"

    def make(self) -> None:
        """Make the directories that everything else is below.

        They are closed to everyone else: a user of the host has no business in a container's file system, where a
        program that belongs to root may be anything.
        """
        for path in (
            *(self.exits, self.sockets, self.bundles, self.execs),
            *(self.containers, self.archives, self.run / "oci"),
            *(self.steps, self.step_snapshots, self.step_scratch),
        ):
            make_closed(path)

    def oci_root(self, runtime: str) -> Path:
        """Where an OCI runtime keeps its own state."""
        return self.run / "oci" / runtime

    def container(self, id: str) -> "ContainerPaths":
        """The places of one container."""
        return ContainerPaths(id, self)

    def exec(self, id: str) -> "ExecPaths":
        """The places of one exec."""
        return ExecPaths(id, self)


@dataclass(frozen=True, slots=True)
class ContainerPaths:
    """The places of one container."""

    id: str
    paths: Paths

    @property
    def bundle(self) -> Path:
        """Its OCI bundle, while it runs."""
        return self.paths.bundles / self.id

    @property
    def root(self) -> Path:
        """Where its root file system is mounted while it runs."""
        return self.bundle / "rootfs"

    @property
    def users(self) -> Path:
        """Its user namespace, if it has one of its own and runs."""
        return self.bundle / "users"

    @property
    def shown_root(self) -> Path:
        """Where its root is mounted once more, if it has a user namespace."""
        return self.paths.roots / self.id / "rootfs"

    @property
    def shm(self) -> Path:
        """Where the /dev/shm is mounted that it shares with others, if it does."""
        return self.bundle / "shm"

    @property
    def parts(self) -> Path:
        """Where images that it mounts, and parts of volumes, are mounted on their way into it."""
        return self.bundle / "parts"

    @property
    def home(self) -> Path:
        """Its durable directory."""
        return self.paths.containers / self.id

    @property
    def spool(self) -> Path:
        """Its output as conmon writes it, until it is in a log."""
        return self.home / "spool"

    @property
    def json_log(self) -> Path:
        """Its log as JSON, named as collectors of logs look for it."""
        return self.home / f"{self.id}-json.log"

    @property
    def local_log(self) -> Path:
        """Its log in our own form."""
        return self.home / "local-logs" / "container.log"

    @property
    def cached_log(self) -> Path:
        """What is kept of a log that is sent elsewhere."""
        return self.home / "container-cached.log"

    @property
    def files(self) -> Path:
        """Where hosts, hostname and resolv.conf are, which are mounted into it."""
        return self.home / "files"

    @property
    def exit_file(self) -> Path:
        """Where conmon leaves the exit code."""
        return self.paths.exits / self.id

    @property
    def token(self) -> str:
        """The name of its link in ``sockets``."""
        return self.id[:16]

    @property
    def attach_socket(self) -> Path:
        """conmon's attach socket, by its short name."""
        return self.paths.sockets / self.token / "attach"

    @property
    def control(self) -> Path:
        """conmon's control fifo."""
        return self.bundle / "ctl"

    @property
    def conmon_pid(self) -> Path:
        """Where conmon leaves its pid."""
        return self.bundle / "conmon.pid"


@dataclass(frozen=True, slots=True)
class ExecPaths:
    """The places of one exec."""

    id: str
    paths: Paths

    @property
    def bundle(self) -> Path:
        """conmon's working directory for it."""
        return self.paths.execs / self.id

    @property
    def exits(self) -> Path:
        """Where conmon leaves the exit code, in a file named for the container."""
        return self.bundle / "exits"

    @property
    def token(self) -> str:
        """The name of its link in ``sockets``."""
        return self.id[:16]

    @property
    def attach_socket(self) -> Path:
        """conmon's attach socket, by its short name."""
        return self.paths.sockets / self.token / "attach"

    @property
    def control(self) -> Path:
        """conmon's control fifo."""
        return self.bundle / "ctl"

    @property
    def conmon_pid(self) -> Path:
        """Where conmon leaves its pid."""
        return self.bundle / "conmon.pid"
