"""The engine and its machine in the shape that Docker's clients know: what ``info`` shows."""

import functools
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sampan.docker.options.logs import DEFAULT_DRIVER
from sampan.json_types import JsonObject
from sampan.oci.platform import host_platform
from sampan.oci.reference import DEFAULT_REGISTRY
from sampan.resource.snapshot import DriverReport, DriversReport
from sampan.resource.stats import HostInfo, OciRuntimeInfo
from sampan.version import VERSION


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What the services say about themselves."""

    host: HostInfo
    drivers: DriversReport
    images: int
    data_root: Path
    set_aside: tuple[str, ...] = ()  # what services could not recover when they started, in sentences
    problems: tuple[str, ...] = ()  # what should be looked after, as a disk that is full

    @property
    def warnings(self) -> list[str]:
        """Everything that a user should know: what the host lacks, what is refused, set aside or running short."""
        refused = [f"runtime {one.name} is not usable: {one.reason}" for one in self.host.runtimes if not one.usable]
        return [*self.host.warnings, *refused, *self.set_aside, *(f"WARNING: {each}" for each in self.problems)]


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What does not change while the machine is up."""

    name: str
    kernel: str
    machine: str  # uname's: x86_64
    architecture: str  # Go's: amd64
    operating_system: str  # "Debian GNU/Linux 12 (bookworm)"
    os_version: str  # "12"
    cpus: int
    memory_bytes: int


@functools.cache
def host_facts() -> HostFacts:
    """Read them."""
    release = _os_release()
    return HostFacts(
        name=platform.node(),
        kernel=platform.release(),
        machine=platform.machine(),
        architecture=host_platform().architecture,
        operating_system=release.get("PRETTY_NAME", "Linux"),
        os_version=release.get("VERSION_ID", ""),
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
    )


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


@functools.cache
def engine_id(data_root: Path) -> str:
    """Return the UUID that tells this engine from others: the same after every restart, another for other roots."""
    import hashlib
    import uuid

    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = platform.node()
    return str(uuid.UUID(bytes=hashlib.sha256(f"sampan {machine} {data_root}".encode()).digest()[:16]))


_SWARM: Final = {
    "NodeID": "",
    "NodeAddr": "",
    "LocalNodeState": "inactive",
    "ControlAvailable": False,
    "Error": "",
    "RemoteManagers": None,
}


def info_json(facts: EngineFacts) -> JsonObject:
    """Return what ``info`` shows, but for what the process that answers says of itself."""
    return (
        {"ID": engine_id(facts.data_root)}
        | _counts(facts)
        | _storage(facts.drivers)
        | _plugins(facts.host)
        | _machine(facts.host)
        | _engine(facts)
        | _runtimes(facts)
    )


def info_of(facts: JsonObject, version: tuple[int, int]) -> JsonObject:
    """Return ``info`` in the shape of an API version, whose clients look for what later ones know nothing of."""
    shown = dict(facts)
    if version < (1, 50):
        shown.pop("DiscoveredDevices", None)
        for kind in ("Iptables", "Ip6tables"):
            shown[f"BridgeNf{kind}"] = _is_set(f"/proc/sys/net/bridge/bridge-nf-call-{kind.lower()}")
    if version < (1, 49):
        shown.pop("FirewallBackend", None)
        for commit in ("ContainerdCommit", "RuncCommit", "InitCommit"):
            shown[commit] = shown[commit] | {"Expected": shown[commit]["ID"]}
        none: JsonObject = {f"AllowNondistributableArtifacts{kind}": [] for kind in ("CIDRs", "Hostnames")}
        shown["RegistryConfig"] = shown["RegistryConfig"] | none
    if version < (1, 44):
        shown["Runtimes"] = {
            name: {key: value for key, value in one.items() if key != "status"}
            for name, one in shown["Runtimes"].items()
        }
    if version < (1, 42):
        shown |= {"KernelMemory": False, "KernelMemoryTCP": False}
    if version < (1, 25):
        shown["SecurityOptions"] = [
            option.removeprefix("name=").partition(",")[0] for option in shown["SecurityOptions"]
        ]
    return shown


def _is_set(sysctl: str) -> bool:
    try:
        return Path(sysctl).read_text().strip() == "1"
    except OSError:
        return False


def verdict(driver: DriverReport) -> str:
    """Return whether a driver of layers can be used here, and why not."""
    usable = "usable" if driver.usable else "not usable"
    return f"{usable}: {driver.reason}" if driver.reason else usable


def default_runtime(host: HostInfo) -> OciRuntimeInfo:
    """Return the runtime of containers that name none; it has no version if it was not found."""
    absent = OciRuntimeInfo(host.default_runtime, "", "", usable=False)
    return next((one for one in host.runtimes if one.name == host.default_runtime), absent)


def _counts(facts: EngineFacts) -> JsonObject:
    host = facts.host
    return {
        "Containers": host.containers_running + host.containers_paused + host.containers_stopped,
        "ContainersRunning": host.containers_running,
        "ContainersPaused": host.containers_paused,
        "ContainersStopped": host.containers_stopped,
        "Images": facts.images,
    }


# What Docker shows of an engine that keeps indexes, attestations and manifests as they are, and loads layouts of them:
# buildx gives its `--load` and `type=docker` images of several platforms, and attested ones, to no other one, and
# buildpacks write archives with every layer for it.
_KEEPS_INDEXES: Final = ("driver-type", "io.containerd.snapshotter.v1")


def _storage(drivers: DriversReport) -> JsonObject:
    rows = [[*_KEEPS_INDEXES]]
    rows += [["Backing Filesystem", drivers.backing_filesystem]] if drivers.backing_filesystem else []
    rows += [[f"Driver {driver.name}", verdict(driver)] for driver in drivers.drivers]
    return {"Driver": drivers.driver, "DriverStatus": rows}


def _plugins(host: HostInfo) -> JsonObject:
    return {
        "Plugins": {
            "Volume": list(host.volume_drivers),
            "Network": list(host.network_drivers),
            "Authorization": None,
            "Log": list(host.log_drivers),
        }
    }


# What Docker calls the limits that a host can have.
_LIMITS: Final = {
    "MemoryLimit": "memory",
    "SwapLimit": "swap",
    "CpuCfsPeriod": "cpu_quota",
    "CpuCfsQuota": "cpu_quota",
    "CPUShares": "cpu_shares",
    "CPUSet": "cpuset",
    "PidsLimit": "pids",
    "OomKillDisable": "oom_kill_disable",
}


def _machine(host: HostInfo) -> JsonObject:
    facts = host_facts()
    return {
        **{shown: limit in host.limits for shown, limit in _LIMITS.items()},
        "IPv4Forwarding": host.ipv4_forwarding,
        "CgroupDriver": host.cgroup_driver or "cgroupfs",
        "CgroupVersion": str(host.cgroup_version or 1),
        "KernelVersion": facts.kernel,
        "OperatingSystem": facts.operating_system,
        "OSVersion": facts.os_version,
        "OSType": "linux",
        "Architecture": facts.machine,
        "NCPU": facts.cpus,
        "MemTotal": facts.memory_bytes,
        "Name": facts.name,
    }


def _engine(facts: EngineFacts) -> JsonObject:
    pools = [_pool(text) for text in facts.host.default_address_pools]
    found = [{"Source": "cdi", "ID": name} for name in facts.host.cdi_devices]
    return {
        "Debug": False,
        "NEventsListener": 0,
        "SystemTime": facts.host.system_time,
        "LoggingDriver": facts.host.log_driver or DEFAULT_DRIVER,
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "IndexConfigs": {
                DEFAULT_REGISTRY: {"Name": DEFAULT_REGISTRY, "Mirrors": [], "Secure": True, "Official": True}
            },
            "Mirrors": [],
        },
        "GenericResources": None,
        "DockerRootDir": str(facts.data_root),
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": list(facts.host.labels),
        "ExperimentalBuild": False,
        "ServerVersion": VERSION,
        "Swarm": dict(_SWARM),
        "LiveRestoreEnabled": not facts.host.stops_containers,
        "Isolation": "",
        "FirewallBackend": {"Driver": "nftables"},
        "CDISpecDirs": list(facts.host.cdi_spec_dirs),
        **({"DiscoveredDevices": found} if found else {}),  # as Docker does, to clients of 1.50 on
        **({"DefaultAddressPools": pools} if pools else {}),
    }


def _pool(text: str) -> JsonObject:
    base, _, size = text.rpartition(":")
    return {"Base": base, "Size": int(size)}


# Docker's word for a commit that it does not know.
_NO_COMMIT: Final = "N/A"

_FEATURES: Final = "org.opencontainers.runtime-spec.features"


def _runtimes(facts: EngineFacts) -> JsonObject:
    host = facts.host
    return {
        "Runtimes": {
            one.name: {"path": one.path or one.name} | ({"status": {_FEATURES: one.features}} if one.features else {})
            for one in host.runtimes
            if one.usable
        },
        "DefaultRuntime": host.default_runtime,
        "InitBinary": host.init_path,
        "ContainerdCommit": {"ID": _NO_COMMIT},
        "RuncCommit": {"ID": default_runtime(facts.host).version or _NO_COMMIT},
        "InitCommit": {"ID": _NO_COMMIT},
        "SecurityOptions": list(host.security_options),
        "Warnings": facts.warnings or None,
    }
