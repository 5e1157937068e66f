"""What runtimed can be told, and what each room makes of it."""

from dataclasses import dataclass
from pathlib import Path

from runtimed.containers.defaults import ContainerDefaults, make_defaults
from runtimed.containers.remapping import Remapping, read_remapping
from runtimed.host.info import Choices, check_labels
from runtimed.network.planning.default_bridge import DefaultBridge, make_default_bridge, parse_host_gateways
from runtimed.stats.container_labels import DEFAULT_LABELS
from sampan.service.config import ServiceConfig, option


@dataclass(frozen=True, slots=True)
class RuntimedConfig(ServiceConfig):
    """What runtimed can be told."""

    runtime: str = option(
        "auto", 'OCI runtime for containers that ask for none; "auto": crun where it works, else runc'
    )
    runtimes: tuple[str, ...] = option((), "further OCI runtimes, name=path each: runsc=/usr/local/bin/runsc")
    cgroup_driver: str = option(
        "cgroupfs",
        'who makes containers\' control groups: the OCI runtime ("cgroupfs"), or at its request the init ("systemd")',
    )
    conmon_path: str = option("", "conmon to use; empty: the one on $PATH")
    init_path: str = option("", "init program for --init; empty: the one that is installed")
    cdi_spec_dirs: tuple[str, ...] = option(
        ("/etc/cdi", "/var/run/cdi"), "where files describe CDI devices, for --device vendor/class=name and --gpus"
    )
    plugin_socket_dir: str = option("/run/docker/plugins", "where volume plugins have their sockets")
    plugin_spec_dirs: tuple[str, ...] = option(
        ("/etc/docker/plugins", "/usr/lib/docker/plugins"), "where files say where other volume plugins listen"
    )
    metrics_labels: tuple[str, ...] = option(
        DEFAULT_LABELS, "containers' labels on each of their series; all others are in sampan_container_info"
    )
    default_address_pools: tuple[str, ...] = option(
        (),
        "what networks without addresses of their own get theirs from, as 10.200.0.0/16:24 or fd12:3456:789a::/48:64; "
        "a family that is not among them has Docker's",
    )
    log_driver: str = option("", "log driver of containers that ask for none; empty: json-file")
    log_opts: tuple[str, ...] = option((), "options of that driver, name=value each: max-size=10m")
    dns: tuple[str, ...] = option((), "name servers of containers that have none of their own; empty: the host's")
    dns_search: tuple[str, ...] = option((), "likewise, domains to search")
    dns_opts: tuple[str, ...] = option((), "likewise, options of the resolver")
    default_ulimits: tuple[str, ...] = option((), "limits of containers, unless they say otherwise: nofile=1024:4096")
    default_shm_size: str = option("", "size of /dev/shm; empty: 64m")
    no_new_privileges: bool = option(False, "let no container's process gain privileges, unless it says otherwise")
    host_ip: str = option("", "address that ports are published at which name none; empty: all of them")
    userns_remap: str = option(
        "", "user[:group] whose ranges of IDs containers get that do not ask for --userns=host; default: dockremap's"
    )
    subuid_file: str = option("/etc/subuid", "where those ranges are, of user IDs")
    subgid_file: str = option("/etc/subgid", "likewise, of group IDs")
    init: bool = option(False, "have an init program in containers that do not say, as --init does")
    live_restore: bool = option(
        True, "let containers run on while the engine is stopped and the machine is not; false: stop them with it"
    )
    shutdown_timeout_s: float = option(
        15.0, "seconds that containers get to end that are stopped with the engine, unless they have more of their own"
    )
    default_ipc_mode: str = option("", "private or shareable: IPC namespaces of containers; empty: private")
    default_cgroupns_mode: str = option(
        "", "private or host: control group namespaces of containers; empty: host's where version 1 is in use"
    )
    cgroup_parent: str = option("", "control group that containers are made in; empty: the engine's own")
    seccomp_profile: str = option(
        "",
        "file with a seccomp profile in Docker's format for containers that name none, or unconfined; empty: built in",
    )
    bip: str = option("", "address of the default bridge, with its network: 10.9.0.1/24; empty: some that nobody uses")
    fixed_cidr: str = option("", "part of bip's network that containers get their addresses from; empty: all of it")
    default_gateway: str = option("", "address in bip's network that default routes lead to; empty: the bridge's own")
    ipv6: bool = option(False, "have IPv6 addresses on the default bridge, too")
    bip6: str = option("", "its IPv6 address, with its network: fd12:3456:789a::1/64; empty: some that nobody uses")
    fixed_cidr_v6: str = option("", "part of bip6's network that containers get theirs from, or that network itself")
    default_gateway_v6: str = option("", "address in bip6's network that default routes lead to")
    ip_masq: bool = option(True, "give containers on the default bridge the host's address outside")
    host_gateway_ips: tuple[str, ...] = option(
        (), "addresses that host-gateway stands for in --add-host; empty: the default bridge's"
    )
    mtu: int = option(0, "largest packet of the default bridge, in bytes; 0: 1500")
    icc: bool = option(True, "let containers on the default bridge reach each other")
    default_network_opts: tuple[str, ...] = option(
        (), "options of new networks, unless they say otherwise: bridge=com.docker.network.driver.mtu=1400"
    )
    labels: tuple[str, ...] = option((), "labels of the engine, which info shows: name=value")
    snapshotter_socket: str = option("", "socket of the snapshotter; empty: the engine's own")

    @property
    def remapping(self) -> Remapping | None:
        """The IDs of containers. InvalidArgumentError."""
        return read_remapping(self.userns_remap, Path(self.subuid_file), Path(self.subgid_file))

    @property
    def defaults(self) -> ContainerDefaults:
        """What containers get that do not say otherwise. InvalidArgumentError."""
        return make_defaults(
            log_driver=self.log_driver,
            log_opts=self.log_opts,
            dns=self.dns,
            dns_search=self.dns_search,
            dns_opts=self.dns_opts,
            ulimits=self.default_ulimits,
            shm_size=self.default_shm_size,
            no_new_privileges=self.no_new_privileges,
            host_ip=self.host_ip,
            init=self.init,
            ipc_mode=self.default_ipc_mode,
            cgroupns_mode=self.default_cgroupns_mode,
            cgroup_parent=self.cgroup_parent,
            seccomp_profile=self.seccomp_profile,
        )

    @property
    def choices(self) -> Choices:
        """What ``info`` says was chosen. InvalidArgumentError."""
        return Choices(
            check_labels(self.labels), self.log_driver, self.seccomp_profile, self.no_new_privileges, self.live_restore
        )

    @property
    def default_bridge(self) -> DefaultBridge:
        """What the default network is to be. InvalidArgumentError."""
        return make_default_bridge(
            bip=self.bip,
            fixed_cidr=self.fixed_cidr,
            default_gateway=self.default_gateway,
            ipv6=self.ipv6,
            bip6=self.bip6,
            fixed_cidr_v6=self.fixed_cidr_v6,
            default_gateway_v6=self.default_gateway_v6,
            mtu=self.mtu,
            icc=self.icc,
            masquerade=self.ip_masq,
        )

    @property
    def host_gateways(self) -> tuple[str, ...]:
        """What host-gateway stands for; empty: the default bridge's addresses. InvalidArgumentError."""
        return parse_host_gateways(self.host_gateway_ips)
