"""What would give a container, and so whoever asks for it, the host. What is not known to be harmless counts as that.

It looks at what the handlers make of a request and not at the request: there is no second reading of it to differ.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from sampan.docker.options.namespaces import CONTAINER, namespace_path
from sampan.docker.options.security import parse_security_options, split_option
from sampan.resource.container_spec import (
    ContainerSpec,
    Endpoint,
    LogConfig,
    Mount,
    MountType,
    Namespaces,
    Resources,
    Security,
)
from sampan.resource.network import NetworkRequest
from sampan.resource.volume import LOCAL, Volume, VolumeRequest

# What a container has without asking; adding one of them back is no more than that.
_HARMLESS_CAPABILITIES: Final = frozenset(
    (
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW",
        "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    )
)  # fmt: skip

# Drivers that write to files of the engine's, or nowhere; the others reach for sockets and hosts.
_HARMLESS_LOGS: Final = frozenset(("", "json-file", "local", "none"))

_HARMLESS_NETWORK_OPTIONS: Final = frozenset(
    (
        "com.docker.network.bridge.enable_icc",
        "com.docker.network.bridge.enable_ip_masquerade",
        "com.docker.network.driver.mtu",
    )
)

# Of a file system in memory. The rest, like ``remount`` and ``bind``, is not about it, but about what is there already:
# /sys, where an image has a link to it for a target.
_HARMLESS_TMPFS_OPTIONS: Final = frozenset(
    (
        "async", "atime", "defaults", "dev", "diratime", "dirsync", "exec", "gid", "huge", "mand", "mode", "mpol",
        "noatime", "nodev", "nodiratime", "noexec", "nomand", "norelatime", "nostrictatime", "nosuid", "nr_blocks",
        "nr_inodes", "private", "relatime", "ro", "rprivate", "rw", "size", "strictatime", "suid", "sync", "uid",
    )
)  # fmt: skip

# Settings that a network namespace has for itself. Whatever a runtime makes of dots and slashes, it stays below "net".
_HARMLESS_SYSCTL: Final = re.compile(r"net\.[\w-]+(?:[./][\w-]+)*", re.ASCII)

_PRIVATE: Final = frozenset(("", "private", "rprivate"))

# Limits that say how far ahead of the host's processes a container may put itself.
_PRIORITIES: Final = frozenset(("nice", "rtprio"))

# Each field of a spec is looked at below or listed here; tests/unit/dockerapi/rights holds that.
HARMLESS: Final[Mapping[type, frozenset[str]]] = {
    ContainerSpec: frozenset(
        (
            "name", "image", "image_id", "chain_id", "process", "labels", "hostname", "domainname", "stop_signal",
            "stop_timeout_s", "exposed_ports", "anonymous_volumes", "ports", "publish_all_ports", "dns", "extra_hosts",
            "restart_policy", "auto_remove", "init", "health_check", "platform", "image_manifest", "docker",
        )
    ),
    Resources: frozenset(
        (
            "memory_bytes", "memory_swap_bytes", "memory_reservation_bytes", "nano_cpus", "cpu_shares", "cpu_period_us",
            "cpu_quota_us", "cpuset_cpus", "cpuset_mems", "pids_limit", "blkio_weight", "shm_size_bytes",
            "memory_swappiness", "blkio_weight_devices", "device_read_bps", "device_write_bps", "device_read_iops",
            "device_write_iops", "hugepage_limits",
        )
    ),
    Security: frozenset(("cap_drop", "read_only_root")),
    Namespaces: frozenset(),
    Mount: frozenset(
        (
            "target", "read_only", "create_source", "no_copy", "tmpfs_size_bytes", "tmpfs_mode", "inherited",
            "non_recursive", "volume_labels", "mode", "read_only_non_recursive", "read_only_force_recursive",
            "subpath", "image_id", "chain_id",
        )
    ),
}  # fmt: skip


def without_defaults(spec: ContainerSpec) -> ContainerSpec:
    """Return the spec of a container that was made without what the engine fills in where nobody asked.

    Whoever enters the container gets none of it. A seccomp profile is left: it decides about what they can do.
    """
    return replace(
        spec,
        log=LogConfig(),
        namespaces=replace(spec.namespaces, cgroup=""),
        resources=replace(spec.resources, cgroup_parent="", ulimits=()),
    )


def without_profile(spec: ContainerSpec) -> ContainerSpec:
    """Return the spec without a seccomp profile."""
    options = tuple(option for option in spec.security.options if split_option(option)[0] != "seccomp")
    return replace(spec, security=replace(spec.security, options=options))


def of_container(spec: ContainerSpec, binds: tuple[str, ...]) -> Iterator[str]:
    """Yield what of a container is the host's, in words that follow "…is not allowed: "."""
    yield from _of_security(spec.security)
    yield from _of_namespaces(spec.namespaces)
    yield from of_resources(spec.resources)
    for mount in spec.mounts:
        yield from _of_mount(mount, binds)
    yield from (f"sysctl {name}" for name in spec.sysctls if not _HARMLESS_SYSCTL.fullmatch(name))
    if spec.log.driver not in _HARMLESS_LOGS:
        yield f"log driver {spec.log.driver}"
    if spec.runtime:
        yield f"runtime {spec.runtime}"
    yield from (f"annotation {name}" for name in spec.annotations)
    for endpoint in spec.endpoints:
        yield from of_endpoint(endpoint)
    yield from _of_driver(spec.volume_driver, {})
    if spec.owner:
        yield f"a container of {spec.owner}'s"


def _of_security(security: Security) -> Iterator[str]:
    if security.privileged:
        yield "privileged"
    for name in (*security.cap_add, *security.cap_add_ambient):
        if name.upper().removeprefix("CAP_") not in _HARMLESS_CAPABILITIES:
            yield f"capability {name}"
    yield from of_profile(security)
    options = parse_security_options(security.options)
    if options.apparmor or options.labels:
        yield "an AppArmor profile or a label of one's own"
    if not options.system_paths_confined or security.own_paths or security.masked_paths or security.readonly_paths:
        yield "unmasked system paths"
    if options.writable_cgroups:
        yield "writable control groups"


def of_profile(security: Security) -> Iterator[str]:
    """Yield that there is a filter of system calls other than the built-in one."""
    if parse_security_options(security.options).seccomp not in ("", "builtin"):
        yield "a seccomp profile of one's own"


def _of_namespaces(namespaces: Namespaces) -> Iterator[str]:
    # What is another container's is for whoever looks at that one.
    for name in ("network", "pid", "ipc", "uts", "cgroup", "user"):
        if getattr(namespaces, name) == "host":
            yield f"the host's {name} namespace"
        elif path := namespace_path(getattr(namespaces, name)):
            yield f"the {name} namespace {path}"
    if namespaces.uid_mappings or namespaces.gid_mappings:
        yield "ID mappings"


def joins(namespaces: Namespaces) -> Iterator[tuple[str, str]]:
    """Yield which namespaces are shared with which containers: fields of ``Namespaces``, and names or IDs."""
    for kind in ("network", "pid", "ipc"):
        if (mode := getattr(namespaces, kind)).startswith(CONTAINER):
            yield kind, mode.removeprefix(CONTAINER)


def of_resources(resources: Resources) -> Iterator[str]:
    """Yield what of the limits is no limit."""
    yield from (f"device {device.host_path}" for device in resources.devices)
    if resources.device_requests:
        yield "devices of a driver's"
    yield from (f"device rule {rule}" for rule in resources.device_cgroup_rules)
    if resources.cgroup_parent:
        yield f"control group {resources.cgroup_parent}"
    yield from (f"control group file {name}" for name in resources.unified)
    if resources.oom_score_adj < 0 or resources.oom_kill_disable:
        yield "being spared when memory is short"
    if resources.cpu_realtime_period_us or resources.cpu_realtime_runtime_us:
        yield "real-time scheduling"
    yield from (f"ulimit {ulimit.name}" for ulimit in resources.ulimits if ulimit.name in _PRIORITIES)


def _of_mount(mount: Mount, binds: tuple[str, ...]) -> Iterator[str]:
    if mount.type is MountType.BIND and mount.source not in binds:
        yield f"a bind of {mount.source}"
    elif mount.type not in (MountType.BIND, MountType.VOLUME, MountType.TMPFS, MountType.IMAGE):
        yield f"a mount of type {mount.type.value}"
    if mount.propagation not in _PRIVATE:
        yield f"propagation {mount.propagation}"
    if mount.uid_mappings or mount.gid_mappings:
        yield "ID mappings of a mount"
    if mount.type is MountType.TMPFS:
        names = (word.partition("=")[0] for text in mount.options for word in text.split(",") if word)
        yield from (f"mount option {name}" for name in names if name not in _HARMLESS_TMPFS_OPTIONS)
    if mount.type is MountType.VOLUME:
        yield from _of_driver(mount.volume_driver, mount.volume_options)


def _of_driver(driver: str, options: Mapping[str, str]) -> Iterator[str]:
    if driver not in ("", LOCAL):
        yield f"volume driver {driver}"
    if options:
        yield f"volume options {', '.join(sorted(options))}"


def of_volume(request: VolumeRequest) -> Iterator[str]:
    """Yield what of a volume that is to be made is the host's: its options can mount anything."""
    yield from _of_driver(request.driver, request.options)


def of_made_volume(volume: Volume) -> Iterator[str]:
    """Yield the same of a volume that is there. One whose record cannot be read may have been anything."""
    if volume.driver != LOCAL:
        yield f"volume {volume.name} of driver {volume.driver}"
    elif volume.options or volume.fault:
        yield f"volume {volume.name}, which has options"


def of_endpoint(endpoint: Endpoint) -> Iterator[str]:
    """Yield what of a place on a network is for drivers."""
    yield from (f"network option {name}" for name in endpoint.driver_options)


def of_network(request: NetworkRequest) -> Iterator[str]:
    """Yield what of a network is the host's: its interfaces, and what a driver makes of options."""
    if request.driver not in ("", "bridge"):
        yield f"network driver {request.driver}"
    yield from (f"network option {name}" for name in request.options if name not in _HARMLESS_NETWORK_OPTIONS)
    if request.config_only or request.config_from:
        yield "another network's configuration"
    yield from (f"the addresses {pool.subnet}, which could be somebody else's" for pool in request.pools if pool.subnet)
    if request.ipam_driver not in ("", "default") or request.ipam_options:
        yield "an address driver of one's own"
