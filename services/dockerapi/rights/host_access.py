"""What would give a container, and so whoever asks for it, the host. What is not known to be harmless counts as that.

It looks at what the handlers make of a request and not at the request: there is no second reading of it to differ.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from sampan.docker.options.namespaces import namespace_path
from sampan.docker.options.security import parse_security_options
from sampan.resource.container_spec import ContainerSpec, Endpoint, Mount, MountType, Namespaces, Resources, Security
from sampan.resource.network import NetworkRequest
from sampan.resource.volume import LOCAL, VolumeRequest

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

_PRIVATE: Final = frozenset(("", "private", "rprivate"))

# Each field of a spec is looked at below or listed here; tests/unit/dockerapi/rights holds that.
HARMLESS: Final[Mapping[type, frozenset[str]]] = {
    ContainerSpec: frozenset(
        (
            "name", "image", "image_id", "chain_id", "process", "labels", "hostname", "domainname", "stop_signal",
            "stop_timeout_s", "exposed_ports", "anonymous_volumes", "ports", "publish_all_ports", "dns", "extra_hosts",
            "restart_policy", "auto_remove", "init", "health_check", "platform", "docker",
        )
    ),
    Resources: frozenset(
        (
            "memory_bytes", "memory_swap_bytes", "memory_reservation_bytes", "nano_cpus", "cpu_shares", "cpu_period_us",
            "cpu_quota_us", "cpuset_cpus", "cpuset_mems", "pids_limit", "blkio_weight", "ulimits", "shm_size_bytes",
            "memory_swappiness", "blkio_weight_devices", "device_read_bps", "device_write_bps", "device_read_iops",
            "device_write_iops", "hugepage_limits",
        )
    ),
    Security: frozenset(("cap_drop", "read_only_root")),
    Namespaces: frozenset(),
    Mount: frozenset(
        (
            "target", "read_only", "create_source", "no_copy", "tmpfs_size_bytes", "tmpfs_mode", "options",
            "non_recursive", "volume_labels", "mode", "read_only_non_recursive", "read_only_force_recursive",
            "subpath", "image_id", "chain_id",
        )
    ),
}  # fmt: skip


def of_container(spec: ContainerSpec, binds: tuple[str, ...], *, made: bool = False) -> Iterator[str]:
    """Yield what of a container is the host's, in words that follow "…is not allowed: ".

    One that was ``made`` says of its control groups what the engine has chosen, where nobody asked.
    """
    yield from _of_security(spec.security)
    yield from _of_namespaces(replace(spec.namespaces, cgroup="") if made else spec.namespaces)
    yield from of_resources(spec.resources)
    for mount in spec.mounts:
        yield from _of_mount(mount, binds)
    yield from (f"sysctl {name}" for name in spec.sysctls if not name.startswith("net."))
    if spec.log.driver not in _HARMLESS_LOGS:
        yield f"log driver {spec.log.driver}"
    if spec.runtime:
        yield f"runtime {spec.runtime}"
    yield from (f"annotation {name}" for name in spec.annotations)
    for endpoint in spec.endpoints:
        yield from of_endpoint(endpoint)
    if spec.owner:
        yield f"a container of {spec.owner}'s"


def _of_security(security: Security) -> Iterator[str]:
    if security.privileged:
        yield "privileged"
    for name in (*security.cap_add, *security.cap_add_ambient):
        if name.upper().removeprefix("CAP_") not in _HARMLESS_CAPABILITIES:
            yield f"capability {name}"
    options = parse_security_options(security.options)
    if options.seccomp not in ("", "builtin"):
        yield "a seccomp profile of one's own"
    if options.apparmor or options.labels:
        yield "an AppArmor profile or a label of one's own"
    if not options.system_paths_confined or security.own_paths or security.masked_paths or security.readonly_paths:
        yield "unmasked system paths"
    if options.writable_cgroups:
        yield "writable control groups"


def _of_namespaces(namespaces: Namespaces) -> Iterator[str]:
    # What is another container's is for whoever looks at that one.
    for name in ("network", "pid", "ipc", "uts", "cgroup", "user"):
        if getattr(namespaces, name) == "host":
            yield f"the host's {name} namespace"
        elif path := namespace_path(getattr(namespaces, name)):
            yield f"the {name} namespace {path}"
    if namespaces.uid_mappings or namespaces.gid_mappings:
        yield "ID mappings"


def joined(spec: ContainerSpec) -> Iterator[str]:
    """Yield the containers whose namespaces are shared."""
    for value in (spec.namespaces.network, spec.namespaces.pid, spec.namespaces.ipc):
        kind, colon, name = value.partition(":")
        if kind == "container" and colon:
            yield name


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


def _of_mount(mount: Mount, binds: tuple[str, ...]) -> Iterator[str]:
    if mount.type is MountType.BIND and mount.source not in binds:
        yield f"a bind of {mount.source}"
    elif mount.type not in (MountType.BIND, MountType.VOLUME, MountType.TMPFS, MountType.IMAGE):
        yield f"a mount of type {mount.type.value}"
    if mount.propagation not in _PRIVATE:
        yield f"propagation {mount.propagation}"
    if mount.uid_mappings or mount.gid_mappings:
        yield "ID mappings of a mount"
    if mount.type is MountType.VOLUME:
        yield from _of_driver(mount.volume_driver, mount.volume_options)


def _of_driver(driver: str, options: Mapping[str, str]) -> Iterator[str]:
    if driver not in ("", LOCAL):
        yield f"volume driver {driver}"
    if options:
        yield f"volume options {', '.join(sorted(options))}"


def of_volume(request: VolumeRequest) -> Iterator[str]:
    """Yield what of a volume is the host's: its options can mount anything."""
    yield from _of_driver(request.driver, request.options)


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
    if request.ipam_driver not in ("", "default") or request.ipam_options:
        yield "an address driver of one's own"
