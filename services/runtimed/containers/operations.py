"""What can be done with containers beside running them: make, find, change, remove.

Limits are changed as ``docker update`` changes them: what is not given stays.
"""

import re
import secrets
import socket
from asyncio import to_thread
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from runtimed.cgroups.naming import is_scope
from runtimed.containers.defaults import ContainerDefaults
from runtimed.containers.filters import select
from runtimed.containers.hostname import hostname_of
from runtimed.containers.links import with_ids
from runtimed.containers.memory_store import UP, Entry, MemoryStore, is_waited_for, utcnow
from runtimed.containers.names import check_name
from runtimed.containers.paths import Paths
from runtimed.containers.remapping import Remapping
from runtimed.containers.store import Intent
from runtimed.events import Events
from runtimed.lifecycle.background import Background
from runtimed.lifecycle.lifecycle import Lifecycle
from runtimed.lifecycle.removal import Removal
from runtimed.lifecycle.runner import Runner
from runtimed.lifecycle.staging import image_views, placed
from runtimed.oci.rootfs import furnished_bytes
from runtimed.oci.signals import parse_signal
from runtimed.protocol import Bundles, Networking, Snapshots, Volumes
from sampan import limits
from sampan.docker.options.check import check_options
from sampan.docker.options.limits import check_limits
from sampan.docker.options.restart import check_restart
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, SampanError, reworded
from sampan.log import log
from sampan.resource.container import Container, Status
from sampan.resource.container_spec import ContainerSpec, Namespaces, Resources, RestartPolicy
from sampan.resource.event import Event
from sampan.resource.listing import Filters, Pruned, Selection

_GRAPH_DATA: Final = {"LowerDir": "lowerdir", "UpperDir": "upperdir", "WorkDir": "workdir"}

_OWNER: Final = re.compile(r"[a-z]{1,16}")

_REMOVALS: Final = 10  # of a container that others start again between its kill and its removal


def changed_resources(old: Resources, new: Resources) -> Resources:
    """Return ``old`` with every limit of ``new`` that is set: one that is 0, empty or None stays as it is.

    Raises:
        InvalidArgumentError: nano CPUs together with a period or a quota.
        ConflictError: the memory limit would exceed memory + swap.
    """
    given = {f.name: value for f in fields(new) if (value := getattr(new, f.name)) not in (0, "", None, (), False, {})}
    if "nano_cpus" in given and (old.cpu_quota_us or old.cpu_period_us):
        raise InvalidArgumentError(
            "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set"
        )
    if ("cpu_quota_us" in given or "cpu_period_us" in given) and old.nano_cpus:
        raise InvalidArgumentError("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set")
    merged = replace(old, **given)
    if 0 < merged.memory_swap_bytes < merged.memory_bytes:
        raise ConflictError(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    return merged


class Containers:
    """The operations on containers as a whole."""

    def __init__(
        self,
        memory: MemoryStore,
        lifecycle: Lifecycle,
        removal: Removal,
        runner: Runner,
        snapshots: Snapshots,
        networking: Networking,
        volumes: Volumes,
        bundles: Bundles,
        events: Events,
        background: Background,
        paths: Paths,
        *,
        choose_runtime: Callable[[str], str],
        limits: Callable[[Resources], Mapping[str, object]],
        defaults: ContainerDefaults | None = None,
        remapping: Remapping | None = None,
    ) -> None:
        """``defaults`` fill in what a spec does not say; they may be replaced at any time.

        ``remapping`` has the IDs of containers without an owner; None: they have the host's.
        """
        self._remapping = remapping
        self.defaults = defaults or ContainerDefaults()
        self._memory = memory
        self._lifecycle = lifecycle
        self._removal = removal
        self._runner = runner
        self._snapshots = snapshots
        self._networking = networking
        self._volumes = volumes
        self._bundles = bundles
        self._events = events
        self._background = background
        self._paths = paths
        self._choose_runtime = choose_runtime
        self._limits = limits

    async def create(self, spec: ContainerSpec) -> tuple[Container, tuple[str, ...]]:
        """Make a container and its file system; return it with warnings. All or nothing.

        Raises:
            InvalidArgumentError: in Docker's words; also if another container that it names is not there.
            ConflictError: the name is taken.
            NotFoundError: the image's snapshot is not there.
        """
        name = check_name(spec.name) if spec.name else self._memory.choose_name()
        if not spec.owner:  # whoever owns containers has defaults of its own
            spec = self.defaults.fill(spec)
        check_sizes(spec)
        check_owner(spec)
        check_options(spec)
        if self._remapping is not None and not spec.owner:
            spec = self._remapping.apply(spec)
        if spec.stop_signal:
            parse_signal(spec.stop_signal)
        spec = replace(spec, name=name, namespaces=self._resolved_namespaces(spec))
        self._check_links(spec)
        spec = with_ids(spec, lambda name: self._other(name, spec.owner).container)
        runtime = self._choose_runtime(spec.runtime)
        warnings = self._bundles.check(spec)
        spec = replace(spec, resources=self._bundles.enforced(spec.resources))
        network, more = await self._networking.check(spec)
        spec = self._with_joined_name(spec)
        new_id = secrets.token_hex(32)
        if spec.resources.memory_bytes > 0 and not spec.resources.memory_swap_bytes and not spec.owner:
            # As with Docker, which from here on shows and changes it like one that was asked for.
            twice = replace(spec.resources, memory_swap_bytes=2 * spec.resources.memory_bytes)
            spec = replace(spec, resources=twice)
        cgroup = self._bundles.cgroup_path(new_id, spec)
        container = Container(new_id, spec, utcnow(), network=network, runtime=runtime, cgroup_path=cgroup)
        await self._memory.until_decided(name, spec.owner)
        entry = self._memory.claim(container)
        return await self._background.finish(self._make(entry), f"create {new_id}"), (*warnings, *more)

    def _resolved_namespaces(self, spec: ContainerSpec) -> Namespaces:
        """Replace names in ``container:<name>`` by IDs, which stay right when that container is renamed.

        What an inspect tells of control groups is what the host makes of it.
        """

        def resolved(mode: str) -> str:
            name = mode.removeprefix("container:")
            return mode if name == mode else f"container:{self._other(name, spec.owner).id}"

        modes = spec.namespaces
        cgroup = modes.cgroup if spec.owner else self._bundles.cgroup_namespace(spec)
        network, pid, ipc = (resolved(mode) for mode in (modes.network, modes.pid, modes.ipc))
        return replace(modes, network=network, pid=pid, ipc=ipc, cgroup=cgroup)

    def _check_links(self, spec: ContainerSpec) -> None:
        """Refuse a legacy link that can never be made; whether the other container runs, the start will see."""
        for link in (link for endpoint in spec.endpoints for link in endpoint.links):
            name, *alias = link.split(":")
            if len(alias) > 1 or not name:
                raise InvalidArgumentError(f"bad format for links: {link}")
            if spec.namespaces.network in ("", "default", "bridge"):
                try:
                    self._other(name, spec.owner)
                except InvalidArgumentError as error:
                    raise InvalidArgumentError(f"could not get container for {name}: {error}") from error

    def _other(self, name: str, owner: str) -> Entry:
        """Return a container that the spec of one of ``owner``'s names."""
        try:
            return self._memory.find(name, owner)
        except NotFoundError as error:  # clients take "not found" for a missing image, and pull it
            raise InvalidArgumentError(str(error)) from error

    def _with_joined_name(self, spec: ContainerSpec) -> ContainerSpec:
        """Give a container that joins another's network its host name too, which is what its peers know it by.

        One that shares the host's network is called as the host is.
        """
        mode = spec.namespaces.network
        if mode == "host" and not spec.hostname and not spec.owner:
            return replace(spec, hostname=socket.gethostname())
        if not mode.startswith("container:") or spec.namespaces.uts == "host":
            return spec
        joined = self._other(mode.removeprefix("container:"), spec.owner).container
        return replace(spec, hostname=hostname_of(joined, socket.gethostname()), domainname=joined.spec.domainname)

    async def _make(self, entry: Entry) -> Container:
        container = entry.container
        await self._memory.add(entry)
        try:
            places = self._paths.container(container.id)
            mounts = placed(await self._volumes.resolve(container.id, container.spec), container.spec, places)
            waits, chain_id = is_waited_for(container), container.spec.chain_id
            entry.root_mounts = await self._snapshots.prepare(container.id, chain_id, transient=not waits)
            for key, mount in image_views(container.id, container.spec).items():
                await self._snapshots.view(key, mount.chain_id)
            if container.spec.owner:  # whose clients look for it now; Docker's at the start
                await self._runner.check_parts(entry)
            places.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            entry.container = replace(container, mounts=mounts)
            # At create and not at the first start: others may use the volumes of a container that never runs.
            async with entry.lock:
                await self._runner.fill_volumes(entry)
            with self._events.recording(entry.container, "create") as telling:
                await self._memory.change(
                    entry, lambda made: made, intent=Intent.SETTLED, telling=telling, durable=waits
                )
        except BaseException:
            await self._undo(entry)
            raise
        return entry.container

    async def _undo(self, entry: Entry) -> None:
        """Take back what was made of a container; if that fails it is dead, to be removed, as at the next start.

        It must not stay as one that is being created: its name would be taken by what nobody can see or remove.
        """
        entry.intent = Intent.CREATING
        try:
            await self._removal.give_back(entry, volumes=True)
            await self._memory.remove(entry)
        except Exception as error:  # noqa: BLE001 - the caller raises why the creation failed, which led to this
            log.warning("container is not created and cannot be undone", container=entry.id, error=str(error))
            entry.removes_volumes = True
            state = replace(entry.container.state, status=Status.DEAD, error=str(error))
            await self._memory.set_state(entry, state, intent=Intent.REMOVING, happened=True)
        finally:
            entry.decided.set()

    def list(self, selection: Selection, filters: Filters) -> list[Container]:
        """Return the selected containers, newest first. Raises InvalidArgumentError: an unknown filter or value."""
        visible = [entry.container for entry in self._memory if entry.intent is not Intent.CREATING]
        return select(visible, selection, filters, self._memory)

    async def size_bytes(self, container: Container) -> int:
        """Return what the container wrote, without what it was furnished with."""
        written = (await self._snapshots.usage(container.id)).size_bytes
        upper = (await self.graph_data(container)).get("UpperDir") if written else None
        return max(written - await to_thread(furnished_bytes, Path(upper)), 0) if upper else written

    async def graph_data(self, container: Container) -> Mapping[str, str]:
        """Return the directories that its root is an overlay of, by Docker's names; empty if that cannot be told."""
        entry = self._memory.by_id(container.id)
        mounts = entry.root_mounts if entry is not None else ()
        if not mounts:
            try:
                mounts = await self._snapshots.mounts(container.id)
            except SampanError:  # it is being removed, or the snapshotter is away: neither keeps it from being seen
                return {}
        given = dict(option.partition("=")[::2] for mount in mounts for option in mount.options)
        return {name: given[option] for name, option in _GRAPH_DATA.items() if option in given}

    async def remove(self, entry: Entry, *, force: bool, volumes: bool) -> None:
        """Remove it; with ``force`` even if it runs. A caller who leaves meanwhile changes nothing.

        Raises:
            ConflictError: it runs; Docker's words.
        """
        if not force:
            _check_removable(entry)
        await self._background.finish(self._remove(entry, force=force, volumes=volumes), f"remove {entry.id}")

    async def _remove(self, entry: Entry, *, force: bool, volumes: bool) -> None:
        for _ in range(_REMOVALS if force else 1):
            if force:
                await self._lifecycle.kill_and_wait(entry)
            await self._removal.remove_entry(entry, volumes=volumes)
            if self._memory.by_id(entry.id) is not entry:
                return  # else it was started meanwhile
        _check_removable(entry)

    async def rename(self, entry: Entry, name: str) -> None:
        """Give it another name. Raises InvalidArgumentError, ConflictError; Docker's words."""
        if not name:
            raise InvalidArgumentError("Neither old nor new names may be empty")
        old = entry.container.name
        if name.removeprefix("/") == old:
            raise InvalidArgumentError(f"Renaming a container with the same name as its current name: /{old}")
        try:
            new = check_name(name)
            await self._memory.until_decided(new, entry.container.spec.owner)
            await self._background.finish(self._rename(entry, new), f"rename {entry.id}")
        except (InvalidArgumentError, ConflictError) as error:
            raise reworded(error, f"Error when allocating new name: {error}") from error
        self._events.container(entry.container, "rename", oldName=f"/{old}")

    async def _rename(self, entry: Entry, name: str) -> None:
        await self._memory.rename(entry, name)
        settings = await self._networking.renamed(entry.container)
        if settings is not None:
            await self._memory.change(entry, lambda now: replace(now, network=settings))

    async def update(
        self, entry: Entry, resources: Resources | None, restart_policy: RestartPolicy | None
    ) -> tuple[str, ...]:
        """Change limits, at once if it runs, and the restart policy; return warnings.

        Raises:
            InvalidArgumentError: limits that contradict each other.
            ConflictError: it is being removed, or the kernel refused.
        """
        if restart_policy is not None:
            check_restart(restart_policy, auto_remove=entry.container.spec.auto_remove)
        return await self._background.finish(self._update(entry, resources, restart_policy), f"update {entry.id}")

    async def _update(
        self, entry: Entry, resources: Resources | None, restart_policy: RestartPolicy | None
    ) -> tuple[str, ...]:
        async with entry.lock:
            self._memory.check_known(entry)
            if entry.status in (Status.REMOVING, Status.DEAD):
                raise ConflictError('Container is marked for removal and cannot be "update".')
            spec = entry.container.spec
            if restart_policy is not None:
                spec = replace(spec, restart_policy=restart_policy)
            if resources is not None:
                spec = replace(spec, resources=changed_resources(spec.resources, resources))
                check_limits(spec.resources, small=bool(spec.owner))
            warnings = self._bundles.check(spec)
            if spec.resources == entry.container.spec.resources:
                warnings = ()  # whoever asked for these limits was told
            spec = replace(spec, resources=self._bundles.enforced(spec.resources))
            if resources is not None and entry.status in UP:
                bundle = self._paths.container(entry.id).bundle
                runtime = self._runner.runtime(entry.container)
                path = entry.container.cgroup_path
                scope = path if is_scope(path) else ""
                await runtime.update(entry.id, bundle, self._limits(spec.resources), scope)
            limits, policy = spec.resources, spec.restart_policy
            await self._memory.change(
                entry, lambda now: replace(now, spec=replace(now.spec, resources=limits, restart_policy=policy))
            )
        self._events.container(entry.container, "update")
        return warnings

    async def prune(self, filters: Filters, owner: str = "") -> Pruned:
        """Remove ``owner``'s containers that do not run and pass ``filters``; one that is started meanwhile stays."""
        removed: list[str] = []
        reclaimed = 0
        for container in self.list(Selection(all=True, owner=owner), filters):
            entry = self._memory.by_id(container.id)
            if entry is None or entry.status not in (Status.CREATED, Status.EXITED, Status.DEAD):
                continue
            size = await self.size_bytes(container)
            try:
                await self._remove(entry, force=False, volumes=False)
            except ConflictError:
                continue
            removed.append(container.id)
            reclaimed += size
        self._events.publish(Event("container", "prune", "", {"reclaimed": str(reclaimed)}, owner=owner))
        return Pruned(tuple(removed), reclaimed)


def check_owner(spec: ContainerSpec) -> None:
    """Raise InvalidArgumentError for an owner that cannot be one, or for what containers without one do not have."""
    if spec.owner and not _OWNER.fullmatch(spec.owner):
        raise InvalidArgumentError(f"invalid owner: {spec.owner}")
    namespaces = spec.namespaces
    mappings = (namespaces.uid_mappings, namespaces.gid_mappings)
    if not spec.owner and (any(mappings) or any(mount.uid_mappings or mount.gid_mappings for mount in spec.mounts)):
        raise InvalidArgumentError("ID mappings are given to containers of an owner alone")


def check_sizes(spec: ContainerSpec) -> None:
    """Raise InvalidArgumentError if a spec is larger than lists and their readers can bear, or the kernel."""
    limits.check_labels(spec.labels, "labels", limits.CONTAINER_LABELS_BYTES)
    process = spec.process
    limits.check_process(process.args, process.env, "container")
    limits.check_execution(process.args, process.working_dir, process.user, process.additional_groups, "container")
    if len(spec.endpoints) > limits.NETWORKS:
        raise InvalidArgumentError(f"container: {len(spec.endpoints)} networks, the most is {limits.NETWORKS}")
    if len(spec.mounts) > limits.MOUNTS:
        raise InvalidArgumentError(f"container: {len(spec.mounts)} mounts, the most is {limits.MOUNTS}")
    for mount in spec.mounts:
        limits.check_labels(mount.volume_labels, f"labels of the volume at {mount.target[:100]}")
    limits.check_record(spec, "container")


def _check_removable(entry: Entry) -> None:
    states = {
        Status.RUNNING: ("running", "Stop the container before attempting removal or force remove"),
        Status.RESTARTING: ("restarting", "Stop the container before attempting removal or force remove"),
        Status.PAUSED: ("paused", "Unpause and then stop the container before attempting removal or force remove"),
    }
    if state := states.get(entry.status):
        raise ConflictError(f"You cannot remove a {state[0]} container {entry.id}. {state[1]}")
