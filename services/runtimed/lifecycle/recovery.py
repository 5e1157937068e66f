"""At start-up: compare the records with what runs and what is on disk, and settle every difference.

The rules, by what was intended and what is found:

    creating                      undone: its client never learned of it
    removing                      finished, with anonymous volumes if that was asked
    starting, nothing runs        cleared, back to what it was before
    starting, conmon runs         cleared as well: its client was told that the start failed
    running, conmon runs          watched again; attach, logs, exec, stop and wait work on it
    running, left a network       its record follows the sandbox
    paused, conmon runs           frozen again, or thawed if it was only held for a client's call
    ended, with a bundle          cleared: it was killed between recording the exit and that
    running, conmon is gone       its exit recorded, from the exit file if there is one; policy and auto-remove apply
    restarting                    started again
    stopped, policy says so       started again
    on disk without a record      removed
    made to pass, no snapshot     removed: a power cut took that
    processes without a conmon    killed, by the cgroup that the record names
    cgroups without a process     removed, whoever made them
    whatever fails                set aside: dead until it is removed, or until the next start
"""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from runtimed.conmon.process import kill_at_work_on
from runtimed.conmon.running import find_conmon
from runtimed.containers.memory_store import UP, Entry, MemoryStore, is_waited_for
from runtimed.containers.paths import Paths
from runtimed.containers.store import Intent
from runtimed.lifecycle.background import Background
from runtimed.lifecycle.lifecycle import Lifecycle
from runtimed.lifecycle.mounter import Mounter
from runtimed.lifecycle.removal import Removal
from runtimed.lifecycle.restart import starts_with_engine
from runtimed.lifecycle.runner import Runner
from runtimed.lifecycle.staging import image_views, unmount_bundle
from runtimed.protocol import ContainerRecords, Networking, Snapshots
from sampan.errors import SampanError
from sampan.log import log
from sampan.resource.container import NetworkSettings, Status
from sampan.service.set_aside import SetAside, why
from sampan.sys.trees import remove_tree


class Recovery:
    """Settles what an earlier process left behind."""

    def __init__(
        self,
        memory: MemoryStore,
        lifecycle: Lifecycle,
        removal: Removal,
        runner: Runner,
        networking: Networking,
        records: ContainerRecords,
        snapshots: Snapshots,
        mounter: Mounter,
        background: Background,
        paths: Paths,
        set_aside: SetAside,
        end_orphans: Callable[[Collection[str]], int],
        remove_idle_cgroups: Callable[[Collection[str]], None],
        *,
        lossy: bool = False,
    ) -> None:
        """With ``lossy`` records are missing because a database was lost: what has none is no stray, and stays.

        It is so until whoever runs the engine removes what is left of that database.
        """
        self._memory = memory
        self._lifecycle = lifecycle
        self._removal = removal
        self._runner = runner
        self._networking = networking
        self._records = records
        self._snapshots = snapshots
        self._mounter = mounter
        self._background = background
        self._paths = paths
        self._set_aside = set_aside
        self._end_orphans = end_orphans
        self._remove_idle_cgroups = remove_idle_cgroups
        self._lossy = lossy

    async def run(self) -> None:
        """Settle everything that clients could notice; what may take long goes on in the background."""
        alive = []
        for entry in self._memory:
            with self._guard(entry):
                if entry.intent is Intent.SETTLED and self._runs(entry):
                    alive.append(entry)
        # Before anything of theirs is started again: without a monitor nobody would ever know of these processes.
        lost = [entry for entry in self._memory if entry not in alive and not self._memory.is_set_aside(entry)]
        await asyncio.to_thread(self._end_orphans, [entry.container.cgroup_path for entry in lost])
        # What the kernel has counted in a run whose end nobody has seen is still to be told.
        counted = [entry.container.cgroup_path for entry in lost if entry.status in UP]
        await asyncio.to_thread(self._remove_idle_cgroups, counted)
        left = await self._networking.recover([entry.container for entry in alive])
        for entry in alive:
            with self._guard(entry):
                self._lifecycle.adopt(entry)
                if (settings := left.get(entry.id)) is not None:
                    await self._record_networks(entry, settings)
                await self._settle_pause(entry)
        for entry in self._memory:
            if entry not in alive and not self._memory.is_set_aside(entry):
                with self._guard(entry):
                    await self._settle(entry)
        if self._lossy:
            return
        self._remove_strays(self._memory)
        # Where the disk is not waited for, it is not for the snapshot either: a power cut may leave one of both.
        made = [one for one in self._memory if one.status is Status.CREATED and not is_waited_for(one.container)]
        self._background.watch(self._remove_stray_snapshots(made), "stray snapshots")

    async def _record_networks(self, entry: Entry, settings: NetworkSettings) -> None:
        log.info("recording a disconnect that was not recorded", container=entry.id)
        endpoints = tuple(replace(state.requested, network=state.network) for state in settings.endpoints)
        await self._records.set_network(entry.id, endpoints, settings)

    async def _settle_pause(self, entry: Entry) -> None:
        try:
            await self._lifecycle.pauses.settle(entry)
        except (SampanError, OSError) as error:
            log.warning("pause not settled", container=entry.id, error=str(error))

    @contextlib.contextmanager
    def _guard(self, entry: Entry) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not keep the rest from being served
            self._memory.set_aside(entry, why(error))

    async def _guarded(self, entry: Entry, work: Callable[[], Awaitable[None]]) -> None:
        with self._guard(entry):
            await work()

    def _runs(self, entry: Entry) -> bool:
        if entry.status not in UP:
            return False
        pidfd = find_conmon(self._paths.container(entry.id).conmon_pid, entry.id)
        if pidfd < 0:
            return False
        os.close(pidfd)
        return True

    async def _settle(self, entry: Entry) -> None:
        if entry.intent is Intent.SETTLED and entry.status in (Status.EXITED, Status.RESTARTING, Status.DEAD):
            await self._clear_rest(entry)
        if entry.intent is Intent.CREATING:
            self._background.watch(self._guarded(entry, lambda: self._undo_create(entry)), f"undo create of {entry.id}")
        elif entry.intent is Intent.REMOVING or entry.status is Status.REMOVING:
            self._remove_later(entry, volumes=entry.removes_volumes)
        elif entry.intent is Intent.STARTING:
            await self._undo_start(entry)
        elif entry.status in UP:
            self._background.watch(
                self._guarded(entry, lambda: self._lifecycle.exited(entry, unseen=True)), f"exit of {entry.id}"
            )
        elif entry.status is Status.RESTARTING:
            entry.down.clear()
            self._lifecycle.restart_by_policy(entry)
        elif entry.status in (Status.EXITED, Status.DEAD) and entry.container.spec.auto_remove:
            self._remove_later(entry)  # killed between its end and its removal
        elif entry.status is Status.EXITED and starts_with_engine(entry):
            self._background.watch(self._lifecycle.start_by_policy(entry), f"start {entry.id}")

    async def _clear_rest(self, entry: Entry) -> None:
        """Take down what a run has left whose exit was recorded, and whose process was killed in clearing up."""
        paths = self._paths.container(entry.id)
        left = (paths.bundle, paths.exit_file, self._paths.sockets / paths.token)
        if await asyncio.to_thread(lambda: any(os.path.lexists(path) for path in left)):
            await self._runner.clear(entry.container)

    def _remove_later(self, entry: Entry, *, volumes: bool = True) -> None:
        work = self._guarded(entry, lambda: self._removal.remove_entry(entry, volumes=volumes))
        self._background.watch(work, f"remove {entry.id}")

    async def _undo_create(self, entry: Entry) -> None:
        await self._removal.give_back(entry, volumes=True)
        await self._memory.remove(entry)

    async def _undo_start(self, entry: Entry) -> None:
        # A conmon that has not written its pid down yet would go on, and make anew what is cleared here.
        await kill_at_work_on(self._paths.container(entry.id).bundle)
        await self._runner.clear(entry.container)
        state = entry.container.state
        error = "the engine was stopped while it was starting"
        await self._memory.set_state(entry, replace(state, pid=0, error=error), happened=True)
        if entry.container.spec.auto_remove:
            self._remove_later(entry)  # as after every start that failed
        elif state.status is Status.RESTARTING or (state.status is Status.EXITED and starts_with_engine(entry)):
            if state.status is Status.RESTARTING:
                entry.down.clear()
            self._background.watch(self._lifecycle.start_by_policy(entry), f"start {entry.id}")

    def _remove_strays(self, entries: Iterable[Entry]) -> None:
        known = {entry.id for entry in entries}
        for bundle in _children(self._paths.bundles):
            if bundle.name not in known:
                with self._set_aside.guard("leftover", bundle.name):
                    self._remove_bundle(bundle)
        for home in _children(self._paths.containers):
            if home.name not in known:
                with self._set_aside.guard("leftover", home.name):
                    remove_tree(home)
        for link in _children(self._paths.sockets):
            if not link.exists():  # conmon's link, and the bundle it showed is gone
                link.unlink(missing_ok=True)

    def _remove_bundle(self, bundle: Path) -> None:
        unmount_bundle(self._mounter, self._paths.container(bundle.name))
        remove_tree(bundle)

    async def _remove_stray_snapshots(self, made: Iterable[Entry]) -> None:
        """Remove snapshots without a container, and those of ``made`` that have no snapshot."""
        # Keys first: a container that is created meanwhile is known before its snapshot is there.
        keys = await self._snapshots.keys()
        for entry in made:
            if entry.id not in keys and entry.status is Status.CREATED:
                log.info("removing a container without a snapshot", container=entry.id)
                self._remove_later(entry)
        known = {entry.id for entry in self._memory}
        known |= {key for entry in self._memory for key in image_views(entry.id, entry.container.spec)}
        for key in sorted(set(keys) - known):
            log.info("removing a snapshot without a container", key=key)
            with self._set_aside.guard("leftover", key):
                await self._snapshots.remove(key)


def _children(directory: Path) -> list[Path]:
    return list(directory.iterdir())
