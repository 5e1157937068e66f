"""Pods' networks: brought up, taken back, and made good after a crash.

    (none) ──add──▶ ADDING ──plugins have answered──▶ ADDED ──remove──▶ REMOVING ──plugins have agreed──▶ (none)
                       └──────a plugin fails, or nobody waits any more───────┘

Each arrow is recorded before plugins are asked. What is to be taken back is tried until that succeeds, whoever asks for
it or not: an address that is lost is missing for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from crid.cni.arguments import arguments, capabilities, say_what_is_not_obeyed
from crid.cni.chain import Chain
from crid.cni.model import (
    INTERFACE,
    Attachment,
    Condition,
    Network,
    PluginError,
    PodNetwork,
    PodRequest,
    State,
    Unusable,
)
from crid.cni.process import kill_left_behind
from crid.cni.records import AttachmentRecords
from crid.cni.results import parse, pod_network
from sampan.cancellation import both
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError, SampanError, UnavailableError
from sampan.json_types import JsonObject
from sampan.log import log

# The word that kubelet and its users know for it.
_NOT_READY: Final = "NetworkPluginNotReady"

# An answer to STATUS serves whoever asks within this time, and a plugin has this long for it.
_STATUS_FOR_S: Final = 1.0
_STATUS_S: Final = 5.0

# Pods that are to be added wait for garbage collection, so it is short.
_COLLECT_S: Final = 10.0

# Waits between two attempts to take a network back.
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 60.0

_CHECKS_AT_ONCE: Final = 4

# How long plugins that take networks back may go on when crid is to end.
_CLOSE_S: Final = 5.0


async def _nothing() -> None:
    """Prepare nothing: the namespace is there."""


class PodNetworks:
    """Networks of pods, by sandbox. For one event loop; ``close`` it."""

    def __init__(
        self,
        configuration: Callable[[], Network | Unusable],
        chain: Chain,
        records: AttachmentRecords,
        is_namespace: Callable[[Path], bool],
        kill_left: Callable[[Collection[str]], int] = kill_left_behind,
        first_wait_s: float = _FIRST_WAIT_S,
    ) -> None:
        """``configuration`` is what the directory says at present; ``changed`` is to be called when that changes."""
        self._configuration = configuration
        self._chain = chain
        self._records = records
        self._is_namespace = is_namespace
        self._kill_left = kill_left
        self._first_wait_s = first_wait_s
        self._attachments: dict[str, Attachment] = {}
        self._pods: dict[str, PodNetwork] = {}  # of those that are ADDED
        self._unread: set[str] = set()  # sandboxes whose records cannot be read
        self._ranges: tuple[str, ...] = ()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._collecting = asyncio.Lock()
        self._asking = asyncio.Lock()
        self._condition: tuple[float, Condition] | None = None
        self._woken = asyncio.Event()
        self._undoing: dict[str, asyncio.Task[None]] = {}
        self._taking: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._alone = asyncio.Event()  # no plugin of an earlier process is at work
        self._alone.set()
        self.broken: dict[str, str] = {}  # sandboxes whose network CHECK found wrong, and what it said

    # What there is

    def get(self, sandbox: str) -> PodNetwork | None:
        """Return what a pod has got, if it has."""
        return self._pods.get(sandbox)

    @property
    def count(self) -> int:
        """How many pods have a network."""
        return len(self._pods)

    @property
    def to_take_back(self) -> int:
        """How many networks wait for their plugins to take them back."""
        return len(self._undoing)

    async def condition(self) -> Condition:
        """Return whether a pod could get a network now."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if self._condition is None or now > self._condition[0] + _STATUS_FOR_S:
                problem = await self._problem()
                condition = Condition(False, _NOT_READY, problem) if problem else Condition(True)
                self._condition = (asyncio.get_running_loop().time(), condition)
            return self._condition[1]

    async def describe(self) -> JsonObject:
        """Return the configuration, for people."""
        network = self._configuration()
        if isinstance(network, Unusable):
            return {"problem": network.reason}
        version = await self._chain.version(network)
        return {
            "name": network.name,
            "file": str(network.source),
            "cniVersion": version if isinstance(version, str) else "",
            "plugins": [plugin.document for plugin in network.plugins],
            "podRanges": list(self._ranges),
            "attached": self.count,
            "toTakeBack": self.to_take_back,
            "broken": self.broken,
        }

    async def _problem(self) -> str:
        network = self._configuration()
        if isinstance(network, Unusable):
            return network.reason
        version = await self._chain.version(network)
        if isinstance(version, Unusable):
            return version.reason
        return await self._chain.status(network, version, _STATUS_S)

    # What is done

    async def add(self, pod: PodRequest, prepare: Callable[[], Awaitable[None]] = _nothing) -> PodNetwork:
        """Give a pod its network; one that has it keeps it. Cancelled, it is taken back.

        ``prepare`` makes the pod's namespace, which no plugin needs until the disk knows of the pod.

        Raises:
            InvalidArgumentError: something about the pod cannot be told to plugins.
            UnavailableError: there is no usable configuration, or plugins cannot do it at present.
            PluginError: plugins fail.
            ConflictError: they give an address that another pod has.
        """
        said = arguments(pod)
        while True:
            async with self._locked(pod.sandbox):
                known = self._attachments.get(pod.sandbox)
                if known is None:
                    return await self._add(pod, said, prepare)
                if known.state is State.ADDED:
                    return self._pods[pod.sandbox]
            await self.remove(pod.sandbox)

    async def _add(self, pod: PodRequest, said: str, prepare: Callable[[], Awaitable[None]]) -> PodNetwork:
        network = self._configuration()
        version = network if isinstance(network, Unusable) else await self._chain.version(network)
        if isinstance(version, Unusable) or isinstance(network, Unusable):
            reason = version.reason if isinstance(version, Unusable) else ""
            raise UnavailableError(f"network of pods is not ready: {reason}")
        values = capabilities(pod, self._ranges)
        say_what_is_not_obeyed(pod, network, values)
        attachment = Attachment(pod.sandbox, pod.netns, network, version, State.ADDING, said, values)
        try:
            await both(self._announce(attachment), prepare())
            return await self._added(attachment)
        except BaseException:
            self._pods.pop(pod.sandbox, None)
            if pod.sandbox in self._attachments:
                self._attachments[pod.sandbox] = attachment
                self._undo_later(pod.sandbox)
            raise

    async def _announce(self, attachment: Attachment) -> None:
        async with self._collecting:
            await self._record(attachment)

    async def _added(self, attachment: Attachment) -> PodNetwork:
        result = await self._chain.add(attachment)
        pod = pod_network(attachment, result)
        for other, theirs in self._pods.items():
            if theirs.network == pod.network and (taken := set(theirs.addresses).intersection(pod.addresses)):
                words = ", ".join(map(str, sorted(map(str, taken))))
                raise ConflictError(f"plugins of network {pod.network} gave {words}, which sandbox {other} has")
        self._pods[attachment.sandbox] = pod  # before anybody waits, so that no other gets its address
        await self._record(replace(attachment, state=State.ADDED, result=result.document))
        return pod

    async def remove(self, sandbox: str) -> None:
        """Take a pod's network back; safe to repeat. Failed, that is tried again until it succeeds.

        It goes on when the caller leaves: a plugin that is killed in the middle need not find again what it was about
        to undo, as ``bridge`` does not find its firewall rules.

        Raises:
            UnavailableError, PluginError: as yet, it has not been possible.
        """
        await self._taken_back(sandbox, even_added=True)

    async def check(self, sandbox: str) -> None:
        """Have plugins look at a pod's network.

        Raises:
            NotFoundError: it has none.
            UnavailableError, PluginError: it is not as it was made.
        """
        async with self._locked(sandbox):
            known = self._attachments.get(sandbox)
            if known is None or known.state is not State.ADDED:
                raise NotFoundError(f"sandbox {sandbox} has no network of CNI's")
            await self._chain.check(known)

    async def set_ranges(self, cidrs: str) -> None:
        """Take the ranges of this node's pods, separated by commas, as kubelet tells them; those to come get them.

        Raises:
            InvalidArgumentError: one is no range.
        """
        ranges = tuple(text.strip() for text in cidrs.split(",") if text.strip())
        for text in ranges:
            try:
                ip_network(text)
            except ValueError as error:
                raise InvalidArgumentError(f"pod CIDR: {error}") from None
        if ranges != self._ranges:
            await self._records.set_ranges(ranges)
            self._ranges = ranges

    def changed(self) -> None:
        """Look anew: the configuration has changed, and with it perhaps what plugins can do."""
        self._condition = None
        self._woken.set()
        self._woken = asyncio.Event()
        self._own(self._collect(), "garbage collection of CNI")

    # After a crash

    async def recover(self, live: Collection[str]) -> dict[str, str]:
        """Make good what an earlier crid has left: ``live`` are the sandboxes that there are.

        Networks of others, and those that were half made or half taken back, are taken back. Returns the sandboxes
        whose records cannot be read, each with the reason.
        """
        self._ranges = await self._records.ranges()
        found, unreadable = await self._records.attachments()
        for attachment in found:
            sandbox = attachment.sandbox
            self._attachments[sandbox] = attachment
            if attachment.state is State.ADDED and sandbox in live:
                try:
                    self._pods[sandbox] = pod_network(attachment, parse(attachment.result, attachment.version))
                except (ValueError, PluginError) as error:
                    unreadable[sandbox] = str(error)
        self._unread = set(unreadable)
        lost = self._attachments.keys() - self._pods.keys()
        if lost:
            self._alone.clear()
            self._own(self._outlive(lost), "plugins of an earlier process")
        for sandbox in lost:
            self._attachments[sandbox] = replace(self._attachments[sandbox], state=State.REMOVING)
            self._undo_later(sandbox)
        if self._attachments:
            self._own(self._look(list(self._pods)), "check of pods' networks")
        self._own(self._collect(), "garbage collection of CNI")
        return unreadable

    async def close(self) -> None:
        """Stop what goes on by itself; it is taken up when crid starts again."""
        self._closing = True
        tasks = [*self._tasks, *self._undoing.values()]
        for task in tasks:
            task.cancel()
        if self._taking:
            await asyncio.wait(self._taking, timeout=_CLOSE_S)
        tasks += self._taking
        for task in self._taking:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _outlive(self, sandboxes: Collection[str]) -> None:
        """Wait until no plugin of an earlier process is at work on these."""
        try:
            if count := await asyncio.to_thread(self._kill_left, sandboxes):
                log.warning("CNI plugins of an earlier process were still at work", count=count)
        finally:
            self._alone.set()

    async def _look(self, sandboxes: list[str]) -> None:
        """Have plugins look at networks that were there before, and note those that are broken."""
        some = asyncio.Semaphore(_CHECKS_AT_ONCE)

        async def look(sandbox: str) -> None:
            async with some:
                try:
                    await self.check(sandbox)
                except NotFoundError:
                    pass  # removed meanwhile
                except SampanError as error:
                    log.warning("pod's network is not as it was made", sandbox=sandbox, error=str(error))
                    self.broken[sandbox] = str(error)

        await asyncio.gather(*map(look, sandboxes))

    async def _collect(self) -> None:
        """Have plugins drop what belongs to no pod."""
        network = self._configuration()
        version = network if isinstance(network, Unusable) else await self._chain.version(network)
        if isinstance(network, Unusable) or isinstance(version, Unusable):
            return
        async with self._collecting:  # nothing is recorded meanwhile, so that plugins know of all that may be there
            # Whose record cannot be read may well live.
            valid = [(sandbox, INTERFACE) for sandbox in {*self._attachments, *self._unread}]
            for error in await self._chain.collect(network, version, valid, _COLLECT_S):
                log.warning("garbage of networks was not collected", error=str(error))

    # Taking back

    async def _taken_back(self, sandbox: str, *, even_added: bool = False) -> None:
        """Take a network back, in a task that nobody's leaving ends."""
        task = asyncio.create_task(self._take_back(sandbox, even_added), name=f"take back the network of {sandbox}")
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)
        await asyncio.shield(task)

    async def _take_back(self, sandbox: str, even_added: bool) -> None:
        async with self._locked(sandbox):
            known = self._attachments.get(sandbox)
            if known is None or (known.state is State.ADDED and not even_added):
                return
            try:
                attachment = replace(known, state=State.REMOVING)
                await self._record(attachment)
                await self._alone.wait()
                netns = attachment.netns
                there = netns is not None and await asyncio.to_thread(self._is_namespace, netns)
                await self._chain.delete(attachment if there else replace(attachment, netns=None))
                await self._records.drop(sandbox)
            except BaseException:
                self._undo_later(sandbox)
                raise
            del self._attachments[sandbox]
            self.broken.pop(sandbox, None)

    def _undo_later(self, sandbox: str) -> None:
        if sandbox not in self._undoing and not self._closing:
            task = asyncio.create_task(self._undo(sandbox), name=f"see that the network of {sandbox} is taken back")
            self._undoing[sandbox] = task
            task.add_done_callback(lambda _: self._undoing.pop(sandbox, None))

    async def _undo(self, sandbox: str) -> None:
        wait_s = self._first_wait_s
        while True:
            try:
                await self._taken_back(sandbox)
            except SampanError as error:
                log.warning("network of a pod is not taken back yet", sandbox=sandbox, error=str(error))
            else:
                return
            woken = self._woken
            try:
                async with asyncio.timeout(wait_s):
                    await woken.wait()
            except TimeoutError:
                wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def _record(self, attachment: Attachment) -> None:
        """Record an attachment; in memory even if the caller is cancelled meanwhile, since the disk may have it."""
        if attachment.state is State.REMOVING:
            self._pods.pop(attachment.sandbox, None)
        self._attachments[attachment.sandbox] = attachment
        await self._records.put(attachment)

    def _own(self, job: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(job, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _locked(self, sandbox: str) -> asyncio.Lock:
        """Return what lets one act on a sandbox at a time: plugins must not be run for one container in parallel."""
        return self._locks.setdefault(sandbox, asyncio.Lock())
