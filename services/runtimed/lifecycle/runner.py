"""Start a container's process and take everything down again: mounts, network, bundle, conmon, OCI runtime.

Nothing is recorded here: the lifecycle writes what it intends before it calls, and what came of it afterwards.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from runtimed.cgroups.naming import is_scope
from runtimed.conmon.conmon import Conmon, RuntimeCommand, Stdio
from runtimed.conmon.running import AcceptedConnections, end_conmon
from runtimed.conmon.stdio import StdioConnection
from runtimed.conmon.terminals import set_terminal_size
from runtimed.containers.memory_store import Entry, passes, utcnow
from runtimed.containers.network_records import lead_links
from runtimed.containers.paths import ContainerPaths, Paths
from runtimed.lifecycle.idmapped import Owners, outside
from runtimed.lifecycle.joins import give_streams, show_mapped, users_of, within
from runtimed.lifecycle.mounter import MappedMounter
from runtimed.lifecycle.staging import (
    check_parts,
    image_views,
    images_in_part,
    needs_staging,
    stage,
    staged,
    unmount_bundle,
)
from runtimed.logs.plans import is_kept
from runtimed.logs.spool import next_run
from runtimed.metrics import Metrics
from runtimed.oci.errors import create_error, prepare_error
from runtimed.oci.mounts import DEFAULT_SHM_BYTES
from runtimed.oci.process import process_user
from runtimed.oci.runtime import OciRuntime
from runtimed.oci.security.seccomp import CompiledFilters
from runtimed.protocol import Bundles, Joins, Networking, SnapshotMount, Snapshots, Volumes
from runtimed.volumes.users import volumes_of
from sampan.cancellation import both
from sampan.docker.options.logs import CRI
from sampan.errors import InvalidArgumentError, StartError
from sampan.log import log
from sampan.resource.container import Container, NetworkSettings, ProcessUser
from sampan.resource.container_spec import LogConfig, Process
from sampan.sys.trees import remove_tree


class Logs(Protocol):
    """Keeps what containers write."""

    async def look_for_receiver(self, config: LogConfig) -> None:
        """Look whether output can be sent. Raises OSError: the receiver does not answer."""

    def begin(self, entry: Entry, paths: ContainerPaths) -> None:
        """Keep what the container writes from here on; called before it can write anything."""

    def release(self, id: str) -> None:
        """Its process has ended: what keeps its output is not to hold conmon up."""

    def end(self, id: str) -> None:
        """Nothing writes any more. Safe to repeat."""

    async def forget(self, entry: Entry) -> None:
        """Let go of a container that is being removed."""


@dataclass(frozen=True, slots=True)
class Started:
    """A container that runs."""

    pid: int
    network: NetworkSettings
    at: datetime  # just before its process began
    user: ProcessUser  # who that is


@dataclass(frozen=True, slots=True)
class Parts:
    """What the runner puts together."""

    snapshots: Snapshots
    networking: Networking
    volumes: Volumes
    bundles: Bundles
    mounter: MappedMounter
    find_joins: Callable[[Container], Joins]
    clear_cgroup: Callable[[str], None]  # by its path; blocks
    logs: Logs
    furnish: Callable[[Path], None]  # make what every container has in its root, which is mounted there


class Runner:
    """Starts and clears containers; every method is called with the container's lock held."""

    def __init__(
        self,
        paths: Paths,
        conmon: Conmon,
        runtimes: Mapping[str, OciRuntime],
        parts: Parts,
        metrics: Metrics,
        init_path: str | None,
    ) -> None:
        self._paths = paths
        self._conmon = conmon
        self._runtimes = runtimes
        self._parts = parts
        self._metrics = metrics
        self._init_path = init_path
        self._filters = CompiledFilters()

    def runtime(self, container: Container) -> OciRuntime:
        """Return the OCI runtime that the container was created for.

        Raises:
            InvalidArgumentError: this engine has it no more.
        """
        runtime = self._runtimes.get(container.runtime)
        if runtime is None:
            raise InvalidArgumentError(f"unknown or invalid runtime name: {container.runtime}")
        return runtime

    def command(self, container: Container) -> RuntimeCommand:
        """Return how that runtime is called for the container's processes. Raises as ``runtime``."""
        return dataclasses.replace(
            self.runtime(container).command,
            hides_null=bool(container.spec.namespaces.uid_mappings),
            asks_systemd=is_scope(container.cgroup_path),
        )

    async def start(self, entry: Entry) -> Started:
        """Start the container, with the clients connected that wait for its streams.

        Raises:
            StartError: the runtime refused; with Docker's words.
            SampanError: a part could not be prepared. Whatever was done is for ``clear`` to undo.
        """
        container = entry.container
        paths = self._paths.container(container.id)
        try:
            with self._metrics.phase("prepare"):
                users = await asyncio.to_thread(
                    users_of, entry.container, self._parts.find_joins, self._parts.mounter, paths
                )
                network = await self._prepare(entry, paths, users)
            container = within(entry.container, users)  # which knows by now where plugins have mounted its volumes
            self._parts.volumes.tell_mounted(container)
            with self._metrics.phase("bundle"):
                user, rules = await self._write_bundle(container, network, paths)
                if container.spec.namespaces.uid_mappings:
                    await asyncio.to_thread(show_mapped, entry, self._parts.mounter, paths)
                await lead_links(self._parts.networking, self._paths, container.id)
        except OSError as error:  # a full disk, above all
            raise prepare_error(error, paths.bundle) from error
        runtime = self.runtime(container)
        command = (container.spec.process.args or ("",))[0]
        spool = await self._begin_log(entry, paths)
        try:
            with self._metrics.phase("create"):
                pid = await self._conmon.create(paths, self.command(container), _stdio(container.spec.process), spool)
            if rules:
                state = runtime.command.root / container.id
                await asyncio.to_thread(self._filters.learn, runtime.name, rules, state)
            owners = Owners.of(container.spec.namespaces)
            if owners is not None:
                await asyncio.to_thread(give_streams, pid, outside(owners.uids, user.uid))
            await connect(entry, paths, pid)
            at = utcnow()
            with self._metrics.phase("start"):
                await runtime.start(container.id, paths.bundle)
        except StartError as error:
            raise create_error(str(error), command) from error
        return Started(pid, network, at, user)

    async def _begin_log(self, entry: Entry, paths: ContainerPaths) -> Path | None:
        """Have output kept from here on; return where conmon shall write it, None if nowhere."""
        config = entry.container.spec.log
        if config.driver == CRI:
            path = Path(config.options["path"])
            if await asyncio.to_thread(path.is_dir):
                raise StartError(f"failed to create task for container: log path {path} is a directory")
            return path
        if not is_kept(entry.container):
            return None
        try:
            spool = await asyncio.to_thread(next_run, paths.spool)
            await self._parts.logs.look_for_receiver(config)
        except OSError as error:
            why = f"failed to initialize logging driver: {error.strerror or error}"
            raise StartError(f"failed to create task for container: {why}") from error
        self._parts.logs.begin(entry, paths)
        return spool

    async def fill_volumes(self, entry: Entry) -> None:
        """Fill the container's new volumes from its image; nothing stays mounted. Raises StartError."""
        if volumes_of(entry.container):
            paths = self._paths.container(entry.id)
            try:
                await self._mount(entry, paths)
            finally:
                await asyncio.to_thread(self._clear_bundle, paths)
                await self._parts.volumes.leave(entry.container)

    async def check_parts(self, entry: Entry) -> None:
        """See that the parts of images that are mounted are there; nothing stays mounted. Raises ImageMountError."""
        if wanted := images_in_part(entry.container):
            paths = self._paths.container(entry.id)
            views = {key: await self._parts.snapshots.mounts(key) for key in wanted}
            try:
                await asyncio.to_thread(check_parts, entry.container, views, self._parts.mounter, paths)
            finally:
                await asyncio.to_thread(self._clear_bundle, paths)

    async def _prepare(self, entry: Entry, paths: ContainerPaths, users: str) -> NetworkSettings:
        """Mount the root and set up the network, side by side."""
        _, network = await both(self._mount_all(entry, paths), self._attach(within(entry.container, users)))
        return network

    async def _attach(self, container: Container) -> NetworkSettings:
        with self._metrics.network("allocate"):
            return await self._parts.networking.attach(container)

    async def _detach(self, container_id: str) -> None:
        with self._metrics.network("release"):
            await self._parts.networking.detach(container_id)

    async def _mount_all(self, entry: Entry, paths: ContainerPaths) -> None:
        await self._mount(entry, paths)
        if needs_staging(entry.container):
            views = image_views(entry.id, entry.container.spec)
            found = {key: await self._parts.snapshots.mounts(key) for key in views}
            await asyncio.to_thread(stage, entry.container, found, self._parts.mounter, paths)

    async def _mount(self, entry: Entry, paths: ContainerPaths) -> None:
        if not await self._mount_as_before(entry, paths):
            entry.root_mounts = await self._parts.snapshots.mounts(entry.id)
            await asyncio.to_thread(self._mount_now, entry, paths)
        places = await self._parts.volumes.fill(entry.container, paths.root)
        if places:
            container = entry.container
            moved = (dataclasses.replace(one, source=places.get(one.target, one.source)) for one in container.mounts)
            entry.container = dataclasses.replace(container, mounts=tuple(moved))

    async def _mount_as_before(self, entry: Entry, paths: ContainerPaths) -> bool:
        """Mount what the snapshotter said last time; return False if that is not there any more.

        What it mounts itself goes when it stops, and is elsewhere when a layer was made again.
        """
        if not entry.root_mounts:
            return False
        try:
            await asyncio.to_thread(self._mount_now, entry, paths)
        except StartError as error:
            log.info("root file system is asked for again", container=entry.id, error=str(error))
            return False
        return True

    def _mount_now(self, entry: Entry, paths: ContainerPaths) -> None:
        paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        mounter = self._parts.mounter
        carry_out = mounter.mount_passing if passes(entry.container) else mounter.mount
        for mount in entry.root_mounts:
            try:
                carry_out(mount, paths.root)
            except OSError as error:
                raise StartError(f"cannot mount the root file system at {paths.root}: {error.strerror}") from error

    async def _write_bundle(
        self, container: Container, network: NetworkSettings, paths: ContainerPaths
    ) -> tuple[ProcessUser, str]:
        joins = self._parts.find_joins(container)
        files = await self._parts.networking.files(container, network)
        return await asyncio.to_thread(self._write_bundle_now, container, network, files, joins, paths)

    def _write_bundle_now(
        self,
        container: Container,
        network: NetworkSettings,
        files: Mapping[str, bytes],
        joins: Joins,
        paths: ContainerPaths,
    ) -> tuple[ProcessUser, str]:
        """Return who its process is, and the rules of its seccomp filter if that is not known yet."""
        if container.spec.namespaces.ipc == "shareable":
            paths.shm.mkdir(mode=0o700, exist_ok=True)
            size_bytes = container.spec.resources.shm_size_bytes or DEFAULT_SHM_BYTES
            options = ("nosuid", "nodev", "noexec", "mode=1777", f"size={size_bytes}")
            self._parts.mounter.mount(SnapshotMount("tmpfs", "shm", options), paths.shm)
        paths.files.mkdir(mode=0o700, parents=True, exist_ok=True)
        owners = Owners.of(container.spec.namespaces)
        for name, content in files.items():
            _write_for_all(paths.files / name, content)
            if owners is not None:
                os.chown(paths.files / name, *owners.root)
        if not container.spec.owner:  # what is there is Docker's
            self._parts.furnish(paths.root)
        config = self._parts.bundles.config(
            dataclasses.replace(container, network=network, mounts=staged(container, paths)),
            paths.root,
            files=paths.files,
            init_path=self._init_path,
            joins=joins,
        )
        if owners is not None:
            config["root"] = {"path": str(paths.shown_root), "readonly": container.spec.security.read_only_root}
        rules = self._filters.put_in(container.runtime, config)
        (paths.bundle / "config.json").write_text(json.dumps(config))
        return process_user(config), rules

    async def clear(self, container: Container, *, keep_exit: bool = False) -> None:
        """Take down everything that a run of the container set up. Safe to repeat; the process is killed if it runs.

        With ``keep_exit``, what conmon has written about its exit stays: nothing else has it.
        """
        paths = self._paths.container(container.id)
        if paths.bundle.exists():
            await self.runtime(container).delete(container.id, paths.bundle)
            await end_conmon(paths.conmon_pid, container.id)
        self._parts.logs.end(container.id)
        await both(
            self._detach(container.id),
            asyncio.to_thread(self._clear_now, container.cgroup_path, paths),
        )
        await self._parts.volumes.leave(container)
        if not keep_exit:
            await asyncio.to_thread(paths.exit_file.unlink, missing_ok=True)

    def _clear_now(self, cgroup_path: str, paths: ContainerPaths) -> None:
        self._parts.clear_cgroup(cgroup_path)
        self._clear_bundle(paths)

    def _clear_bundle(self, paths: ContainerPaths) -> None:
        unmount_bundle(self._parts.mounter, paths)
        remove_tree(paths.bundle)
        (self._paths.sockets / paths.token).unlink(missing_ok=True)

    def adopt(self, container: Container) -> None:
        """Know of a container that was started by an earlier process of ours."""
        self._parts.volumes.adopt(container)

    def process_ended(self, entry: Entry) -> None:
        """Its process has ended, conmon has not: let that get rid of the last output, though nobody may read it."""
        for connection in tuple(entry.connections):
            connection.open_floodgate()
        self._parts.logs.release(entry.id)

    async def forget_log(self, entry: Entry) -> None:
        """Let go of the container's log, which is about to be removed."""
        await self._parts.logs.forget(entry)

    async def remove_snapshots(self, container: Container) -> None:
        """Give the container's file system back, and the images that it mounts."""
        for key in (container.id, *image_views(container.id, container.spec)):
            await self._parts.snapshots.remove(key)


def _write_for_all(path: Path, content: bytes) -> None:
    """Write a file that every user of the container may read, where it is not so already.

    What has not changed is left alone: a container whose disk is full can be started again.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == content:
            return
    path.write_bytes(content)
    path.chmod(0o644)


async def connect(entry: Entry, paths: ContainerPaths, pid: int) -> None:
    """Connect all clients that wait for the container's streams, and set the size of the terminal of ``pid``."""
    accepted = AcceptedConnections(paths.conmon_pid)
    clients = tuple(entry.pending)
    for waiting in clients:
        if not waiting.done():
            connection = StdioConnection.connect(paths.attach_socket)
            entry.connections.add(connection)
            waiting.set_result(connection)
    entry.pending.clear()
    await accepted.all_of(len(clients))
    if entry.console_size is not None and entry.container.spec.process.tty:
        with contextlib.suppress(OSError):  # it has ended already
            set_terminal_size(pid, entry.console_size)  # not by conmon: the process could look before conmon does


def _stdio(process: Process) -> Stdio:
    # conmon takes any client's leaving for the end of stdin unless told otherwise; a terminal has no such end.
    return Stdio(process.tty, process.open_stdin, process.tty or not process.stdin_once)
