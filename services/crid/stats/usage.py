"""What pods and their containers use, as kubelet asks for it every few seconds: a few readings for all of them at once.

A pod's own numbers are those of its cgroup, where kubelet has made one for it alone; else they are the sums of its
containers'. Processor time of a container that has ended stays in such a sum, as far as this process has seen it:
kubelet takes a counter that falls for one that began anew.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from crid.cni.kernel import Counters
from crid.containers.model import OWNER, Record
from crid.sandboxes.model import Sandbox
from sampan.resource.stats import ContainerSample

# The least time between the two readings that a rate is made of.
_WINDOW_NS: Final = 1_000_000_000
_NS: Final = 1_000_000_000

LOOPBACK: Final = "lo"

# Reads the counters of network namespaces, by sandbox; those that are gone are left out.
ReadCounters = Callable[[Mapping[str, Path]], Awaitable[Mapping[str, tuple[Counters, ...]]]]


class Samples(Protocol):
    """Usage of containers; ``resource.protocols.Containers`` says what it promises."""

    async def samples(
        self,
        owner: str = "",
        containers: Sequence[str] = (),
        *,
        detailed: bool = False,
        parents: Sequence[str] = (),
    ) -> tuple[ContainerSample, ...]:
        """Return what those that run use, and the cgroups above them."""


class Pods(Protocol):
    """Sandboxes; ``sandboxes.sandboxes`` says what it promises."""

    def get(self, id: str) -> Sandbox:
        """Return one."""

    def everything(self) -> list[Sandbox]:
        """Return all."""


class ContainerRecords(Protocol):
    """Containers; ``containers.store`` says what it promises."""

    def get(self, id: str) -> Record:
        """Return one."""

    def all(self) -> Iterable[Record]:
        """Yield all."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose usage is asked for: all conditions are met."""

    id: str = ""
    sandbox: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def has(self, id: str, sandbox: str, labels: Mapping[str, str]) -> bool:
        """Say whether one is meant."""
        return id.startswith(self.id) and sandbox.startswith(self.sandbox) and self.labels.items() <= labels.items()


@dataclass(frozen=True, slots=True)
class ContainerUse:
    """What a container uses."""

    record: Record
    sample: ContainerSample | None  # None: it does not run
    nano_cores: int | None = None  # billionths of a processor, just now; None: not known yet


@dataclass(frozen=True, slots=True)
class PodUse:
    """What a pod uses."""

    sandbox: Sandbox
    read_ns: int  # since 1970
    cpu_ns: int
    nano_cores: int | None
    containers: tuple[ContainerUse, ...]
    infra: ContainerSample | None  # of a shared pid namespace
    interfaces: tuple[Counters, ...] | None  # None: the host's
    own: ContainerSample | None = None  # of its cgroup; None: it has none of its own

    @property
    def samples(self) -> tuple[ContainerSample, ...]:
        """What its usage is the sum of."""
        return (self.own,) if self.own is not None else self.members

    @property
    def memory_limit_bytes(self) -> int:
        """What its containers may take together; 0: one has no limit, or none runs."""
        limits = [sample.memory_limit_bytes for sample in self.members]
        return sum(limits) if all(limits) else 0

    @property
    def members(self) -> tuple[ContainerSample, ...]:
        """What was read of its containers."""
        own = (self.infra,) if self.infra is not None else ()
        return (*own, *(use.sample for use in self.containers if use.sample is not None))


class Usages:
    """Usage of all pods. For one event loop."""

    def __init__(
        self,
        samples: Samples,
        pods: Pods,
        records: ContainerRecords,
        namespace: Callable[[str], Path],
        read_counters: ReadCounters,
        now_ns: Callable[[], int],
    ) -> None:
        """``namespace`` says where a sandbox's network namespace is."""
        self._samples = samples
        self._pods = pods
        self._records = records
        self._namespace = namespace
        self._read_counters = read_counters
        self._now_ns = now_ns
        self._rates = _Rates()
        self._spent: dict[str, dict[str, int]] = {}  # processor time by sandbox and container

    async def container(self, id: str) -> ContainerUse:
        """Return one, by its ID or the beginning of it; without a sample if it does not run. Raises NotFoundError."""
        record = self._records.get(id)
        found = await self._samples.samples(OWNER, [record.id])
        return self._use(record, found[0] if found else None)

    async def containers(self, wanted: Wanted) -> list[ContainerUse]:
        """Return those that run and are wanted."""
        records = {
            record.id: record
            for record in self._records.all()
            if record.id and wanted.has(record.id, record.sandbox, record.config.labels)
        }
        if not records:
            return []
        found = await self._samples.samples(OWNER)
        return [self._use(records[sample.id], sample) for sample in found if sample.id in records]

    async def pod(self, id: str) -> PodUse:
        """Return one, by its ID or the beginning of it. Raises NotFoundError."""
        sandbox = self._pods.get(id)
        (found,) = await self._of([sandbox], detailed=False)
        return found

    async def pods(self, wanted: Wanted, *, detailed: bool = False) -> list[PodUse]:
        """Return those that are ready and wanted; ``detailed``: with details of their containers' samples."""
        sandboxes = [
            each for each in self._pods.everything() if each.ready and wanted.has(each.id, "", each.config.labels)
        ]
        return await self._of(sandboxes, detailed=detailed) if sandboxes else []

    async def _of(self, sandboxes: Sequence[Sandbox], *, detailed: bool) -> list[PodUse]:
        places = {each.id: self._namespace(each.id) for each in sandboxes if each.ready and not each.host_network}
        members: dict[str, list[Record]] = {each.id: [] for each in sandboxes}
        for record in self._records.all():
            if record.id and record.sandbox in members:
                members[record.sandbox].append(record)
        one = [record.id for record in members[sandboxes[0].id]] if len(sandboxes) == 1 else []
        if one and sandboxes[0].infra:
            one.append(sandboxes[0].infra)
        parents = self._own_parents(sandboxes)
        read, counters = await asyncio.gather(
            self._samples.samples(OWNER, one, detailed=detailed, parents=parents), self._read_counters(places)
        )
        samples = {sample.id: sample for sample in read}
        self._forget()
        return [self._pod(each, members[each.id], samples, counters.get(each.id)) for each in sandboxes]

    def _own_parents(self, sandboxes: Sequence[Sandbox]) -> list[str]:
        """Return the cgroups of those that share theirs with no other pod."""
        pods = Counter(each.config.linux.cgroup_parent for each in self._pods.everything())
        named = (each.config.linux.cgroup_parent for each in sandboxes)
        return [parent for parent in named if parent and pods[parent] == 1]

    def _pod(
        self,
        sandbox: Sandbox,
        members: Sequence[Record],
        samples: Mapping[str, ContainerSample],
        interfaces: tuple[Counters, ...] | None,
    ) -> PodUse:
        uses = tuple(self._use(record, samples[record.id]) for record in members if record.id in samples)
        infra = samples.get(sandbox.infra)
        now = self._now_ns()
        spent = self._spent.setdefault(sandbox.id, {})
        for sample in (*(use.sample for use in uses), infra):
            if sample is not None:
                spent[sample.id] = sample.cpu_usage_ns
        own = samples.get(sandbox.config.linux.cgroup_parent)
        cpu_ns = sum(spent.values()) if own is None else own.cpu_usage_ns
        return PodUse(sandbox, now, cpu_ns, self._rates.of(sandbox.id, now, cpu_ns), uses, infra, interfaces, own)

    def _use(self, record: Record, sample: ContainerSample | None) -> ContainerUse:
        if sample is None:
            return ContainerUse(record, None)
        read_ns = int(sample.read.timestamp() * _NS)
        return ContainerUse(record, sample, self._rates.of(sample.id, read_ns, sample.cpu_usage_ns))

    def _forget(self) -> None:
        """Drop what is remembered of pods that there are no more."""
        sandboxes = {each.id for each in self._pods.everything()}
        self._spent = {key: spent for key, spent in self._spent.items() if key in sandboxes}
        self._rates.keep(sandboxes | {record.id for record in self._records.all()})


class _Rates:
    """Processor time per time, between two readings that are not too near each other."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, int, int | None]] = {}  # when, how much by then, the rate then

    def of(self, id: str, read_ns: int, cpu_ns: int) -> int | None:
        """Take a reading and return the rate; None with the first one."""
        begin_ns, begin_cpu, rate = self._known.get(id, (read_ns, cpu_ns, None))
        if cpu_ns < begin_cpu:  # it was started anew
            begin_ns, begin_cpu, rate = read_ns, cpu_ns, None
        elif (took := read_ns - begin_ns) >= _WINDOW_NS:
            rate = (cpu_ns - begin_cpu) * _NS // took
            begin_ns, begin_cpu = read_ns, cpu_ns
        self._known[id] = begin_ns, begin_cpu, rate
        return rate

    def keep(self, ids: set[str]) -> None:
        """Forget all others."""
        if len(self._known) > len(ids):
            self._known = {key: known for key, known in self._known.items() if key in ids}
