"""The flags that ``run`` and ``create`` share, and the value they become."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypedDict, TypeVar, Unpack

import click

from sampan.docker.durations import parse_duration
from sampan.docker.options.devices import parse_gpus, parse_iops, parse_rate, parse_weight
from sampan.docker.sizes import parse_size
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import DeviceLimit, DeviceRequest
from sampan_cli.app import completing
from sampan_cli.options.cpus import nano_cpus
from sampan_cli.options.types import Parsed


class _Attributes(TypedDict, total=False):
    """What is told to click of a flag as it is."""

    type: click.ParamType[object] | type[int]
    multiple: bool
    is_flag: bool
    show_default: bool


@dataclass(frozen=True, slots=True)
class ContainerOptions:
    """What a user wants a container to be; 0 and "" are what is not said.

    A field is named for its flag. One that is named as a field of ``Resources`` is copied there by ``spec``.
    """

    image: str
    command: tuple[str, ...]
    add_host: tuple[str, ...]
    annotation: tuple[str, ...]
    attach: tuple[str, ...]
    blkio_weight: int
    blkio_weight_devices: tuple[DeviceLimit, ...]
    cap_add: tuple[str, ...]
    cap_drop: tuple[str, ...]
    cgroup_parent: str
    cgroupns: str
    cidfile: str
    cpu_period_us: int
    cpu_quota_us: int
    cpu_realtime_period_us: int
    cpu_realtime_runtime_us: int
    cpu_shares: int
    nano_cpus: int
    cpuset_cpus: str
    cpuset_mems: str
    device: tuple[str, ...]
    device_cgroup_rule: tuple[str, ...]
    device_read_bps: tuple[DeviceLimit, ...]
    device_read_iops: tuple[DeviceLimit, ...]
    device_write_bps: tuple[DeviceLimit, ...]
    device_write_iops: tuple[DeviceLimit, ...]
    dns: tuple[str, ...]
    dns_option: tuple[str, ...]
    dns_search: tuple[str, ...]
    domainname: str
    entrypoint: str | None
    env: tuple[str, ...]
    env_file: tuple[str, ...]
    expose: tuple[str, ...]
    gpus: DeviceRequest | None
    group_add: tuple[str, ...]
    health_cmd: str
    health_interval_ns: int
    health_retries: int
    health_start_interval_ns: int
    health_start_period_ns: int
    health_timeout_ns: int
    no_healthcheck: bool
    hostname: str
    init: bool | None
    interactive: bool
    ip: str
    ip6: str
    ipc: str
    label: tuple[str, ...]
    label_file: tuple[str, ...]
    link: tuple[str, ...]
    link_local_ip: tuple[str, ...]
    log_driver: str
    log_opt: tuple[str, ...]
    mac_address: str
    memory_bytes: int
    memory_reservation_bytes: int
    memory_swap_bytes: int
    memory_swappiness: int
    mount: tuple[str, ...]
    name: str
    network: tuple[str, ...]
    network_alias: tuple[str, ...]
    oom_kill_disable: bool
    oom_score_adj: int
    pid: str
    pids_limit: int
    platform: str
    privileged: bool
    publish: tuple[str, ...]
    publish_all: bool
    pull: str
    quiet: bool
    read_only: bool
    restart: str
    rm: bool
    runtime: str
    security_opt: tuple[str, ...]
    shm_size_bytes: int
    stop_signal: str
    stop_timeout: int | None
    storage_opt: tuple[str, ...]
    sysctl: tuple[str, ...]
    tmpfs: tuple[str, ...]
    tty: bool
    ulimit: tuple[str, ...]
    user: str
    userns: str
    uts: str
    volume: tuple[str, ...]
    volume_driver: str
    volumes_from: tuple[str, ...]
    workdir: str


def _health_time(text: str) -> int:
    """Return the nanoseconds of one of a health check's times: none, or at least what Docker lets it be."""
    duration_ns = parse_duration(text)
    if duration_ns < 0:
        raise InvalidArgumentError(f"{text} cannot be negative")
    return duration_ns


F = TypeVar("F", bound=Callable[..., object])

_SIZE: Final = Parsed("bytes", parse_size)
_RATE: Final = Parsed("rate", parse_rate)
_IOPS: Final = Parsed("rate", parse_iops)
_DURATION: Final = Parsed("duration", _health_time)


def _swap(text: str) -> int:
    return -1 if text == "-1" else parse_size(text)


def _option(*names: str, help: str, default: object = "", **attributes: Unpack[_Attributes]) -> Callable[[F], F]:
    return click.option(*names, help=help, default=None if attributes.get("multiple") else default, **attributes)


_OPTIONS: Final = (
    _option("--add-host", help="Add a custom host-to-IP mapping (host:ip).", multiple=True),
    _option("--annotation", help="Add an annotation, passed through to the runtime.", multiple=True),
    _option("--attach", "-a", help="Attach to STDIN, STDOUT or STDERR.", multiple=True),
    _option("--blkio-weight", type=int, default=0, help="Block IO weight, 10 to 1000; 0 disables."),
    _option("--blkio-weight-device", "blkio_weight_devices", type=Parsed("weight", parse_weight),
            help="Block IO weight (relative device weight).", multiple=True),
    _option("--cap-add", help="Add Linux capabilities.", multiple=True),
    _option("--cap-drop", help="Drop Linux capabilities.", multiple=True),
    _option("--cgroup-parent", help="Parent cgroup for the container."),
    _option("--cgroupns", help="Cgroup namespace to use (host|private)."),
    _option("--cidfile", help="Write the container ID to this file."),
    _option("--cpu-period", "cpu_period_us", type=int, default=0, help="Limit the CPU CFS period (microseconds)."),
    _option("--cpu-quota", "cpu_quota_us", type=int, default=0, help="Limit the CPU CFS quota (microseconds)."),
    _option("--cpu-rt-period", "cpu_realtime_period_us", type=int, default=0,
            help="Limit CPU real-time period (microseconds)."),
    _option("--cpu-rt-runtime", "cpu_realtime_runtime_us", type=int, default=0,
            help="Limit CPU real-time runtime (microseconds)."),
    _option("--cpu-shares", "-c", type=int, default=0, help="CPU shares (relative weight)."),
    _option("--cpus", "nano_cpus", type=Parsed("decimal", nano_cpus), default=0, help="Number of CPUs."),
    _option("--cpuset-cpus", help="CPUs in which to allow execution (0-3, 0,1)."),
    _option("--cpuset-mems", help="Memory nodes in which to allow execution (0-3, 0,1)."),
    _option("--device", help="Add a host device to the container.", multiple=True),
    _option("--device-cgroup-rule", help="Add a rule to the cgroup allowed devices list.", multiple=True),
    _option("--device-read-bps", type=_RATE, help="Limit read rate (bytes per second) from a device.", multiple=True),
    _option("--device-read-iops", type=_IOPS, help="Limit read rate (IO per second) from a device.", multiple=True),
    _option("--device-write-bps", type=_RATE, help="Limit write rate (bytes per second) to a device.", multiple=True),
    _option("--device-write-iops", type=_IOPS, help="Limit write rate (IO per second) to a device.", multiple=True),
    _option("--dns", help="Set custom DNS servers.", multiple=True),
    _option("--dns-option", "--dns-opt", help="Set DNS options.", multiple=True),
    _option("--dns-search", help="Set custom DNS search domains.", multiple=True),
    _option("--domainname", help="Container NIS domain name."),
    _option("--entrypoint", default=None, help="Overwrite the default ENTRYPOINT of the image."),
    _option("--env", "-e", help="Set environment variables.", multiple=True),
    _option("--env-file", help="Read in a file of environment variables.", multiple=True),
    _option("--expose", help="Expose a port or a range of ports.", multiple=True),
    _option("--gpus", type=Parsed("gpu-request", parse_gpus), default=None,
            help="GPU devices to add to the container ('all' to pass all GPUs)."),
    _option("--group-add", help="Add additional groups to join.", multiple=True),
    _option("--health-cmd", help="Command to run to check health."),
    _option("--health-interval", "health_interval_ns", type=_DURATION, default=0, help="Time between two checks."),
    _option("--health-retries", type=int, default=0, help="Consecutive failures that mean unhealthy."),
    _option("--health-start-interval", "health_start_interval_ns", type=_DURATION, default=0,
            help="Time between two checks during the start period."),
    _option("--health-start-period", "health_start_period_ns", type=_DURATION, default=0,
            help="Time to start up before failures count."),
    _option("--health-timeout", "health_timeout_ns", type=_DURATION, default=0, help="Longest one check may take."),
    _option("--no-healthcheck", is_flag=True, default=False, help="Disable any HEALTHCHECK of the image."),
    _option("--hostname", "-h", help="Container host name."),
    _option("--init/--no-init", default=None, help="Run an init inside that forwards signals, reaps processes."),
    _option("--interactive", "-i", is_flag=True, default=False, help="Keep STDIN open even if not attached."),
    _option("--ip", help="IPv4 address (e.g., 172.30.100.104)."),
    _option("--ip6", help="IPv6 address (e.g., 2001:db8::33)."),
    _option("--ipc", help="IPC mode to use."),
    _option("--label", "-l", help="Set meta data on a container.", multiple=True),
    _option("--label-file", help="Read in a line delimited file of labels.", multiple=True),
    _option("--link", help="Add link to another container.", multiple=True),
    _option("--link-local-ip", help="Container IPv4/IPv6 link-local addresses.", multiple=True),
    _option("--log-driver", help="Logging driver for the container."),
    _option("--log-opt", help="Log driver options.", multiple=True),
    _option("--mac-address", help="Container MAC address (e.g., 92:d0:c6:0a:29:33)."),
    _option("--memory", "-m", "memory_bytes", type=_SIZE, default=0, help="Memory limit."),
    _option("--memory-reservation", "memory_reservation_bytes", type=_SIZE, default=0, help="Memory soft limit."),
    _option("--memory-swap", "memory_swap_bytes", type=Parsed("bytes", _swap), default=0,
            help="Memory plus swap; -1 for unlimited swap."),
    _option("--memory-swappiness", type=int, default=-1, help="Tune memory swappiness (0 to 100)."),
    _option("--mount", help="Attach a filesystem mount to the container.", multiple=True),
    _option("--name", help="Assign a name to the container."),
    _option("--network", "--net", help="Connect the container to a network.", multiple=True),
    _option("--network-alias", "--net-alias", help="Add a network-scoped alias.", multiple=True),
    _option("--oom-kill-disable", is_flag=True, default=False, help="Disable the OOM killer."),
    _option("--oom-score-adj", type=int, default=0, help="Tune the host's OOM preferences (-1000 to 1000)."),
    _option("--pid", help="PID namespace to use."),
    _option("--pids-limit", type=int, default=0, help="Tune the pids limit; -1 for unlimited."),
    _option("--platform", help="Platform of the image, such as linux/arm64."),
    _option("--privileged", is_flag=True, default=False, help="Give extended privileges to this container."),
    _option("--publish", "-p", help="Publish a container's port(s) to the host.", multiple=True),
    _option("--publish-all", "-P", is_flag=True, default=False, help="Publish all exposed ports to random ports."),
    _option("--pull", type=click.Choice(["always", "missing", "never"]), default="missing", show_default=True,
            help="Pull the image before running."),
    _option("--quiet", "-q", is_flag=True, default=False, help="Suppress the pull output."),
    _option("--read-only", is_flag=True, default=False, help="Mount the root filesystem as read only."),
    _option("--restart", default="no", show_default=True, help="Restart policy to apply when the container exits."),
    _option("--rm", is_flag=True, default=False, help="Remove the container and its anonymous volumes when it exits."),
    _option("--runtime", help="Runtime to use for this container."),
    _option("--security-opt", help="Security options.", multiple=True),
    _option("--shm-size", "shm_size_bytes", type=_SIZE, default=0, help="Size of /dev/shm."),
    _option("--stop-signal", help="Signal to stop the container."),
    _option("--stop-timeout", type=int, default=None, help="Seconds to wait for the container to stop."),
    _option("--storage-opt", help="Storage driver options for the container.", multiple=True),
    _option("--sysctl", help="Sysctl options.", multiple=True),
    _option("--tmpfs", help="Mount a tmpfs directory.", multiple=True),
    _option("--tty", "-t", is_flag=True, default=False, help="Allocate a pseudo-TTY."),
    _option("--ulimit", help="Ulimit options.", multiple=True),
    _option("--user", "-u", help="Username or UID (format: <name|uid>[:<group|gid>])."),
    _option("--userns", help="User namespace to use."),
    _option("--uts", help="UTS namespace to use."),
    _option("--volume", "-v", help="Bind mount a volume.", multiple=True),
    _option("--volume-driver", help="Volume driver for the container."),
    _option("--volumes-from", help="Mount volumes from the given container(s).", multiple=True),
    _option("--workdir", "-w", help="Working directory inside the container."),
)  # fmt: skip


def container_options(function: Callable[..., object]) -> Callable[..., object]:
    """Add the flags, IMAGE and COMMAND to a command; what follows IMAGE is the container's, flags too."""
    for add in reversed(_OPTIONS):
        function = add(function)
    function = click.argument("command", nargs=-1, type=click.UNPROCESSED)(function)
    return click.argument("image", shell_complete=completing.images)(function)
