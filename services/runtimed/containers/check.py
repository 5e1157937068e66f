"""What can be refused when a container is created, before anything is made: in Docker's words.

Limits are in ``check_limits``. ``Volumes.resolve`` looks at mounts and volumes, ``Networking.check`` at networks.
"""

from collections.abc import Callable, Collection
from typing import Final

from runtimed.containers.check_limits import check_limits
from runtimed.host.facts import HostFacts
from runtimed.oci.devices import check_devices
from runtimed.oci.namespaces import check_sysctls
from runtimed.oci.security.capabilities import check_capabilities
from runtimed.oci.security.options import parse_security_options
from runtimed.oci.security.seccomp import own_profile
from runtimed.oci.signals import parse_signal
from runtimed.oci.tmpfs import tmpfs_options
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ContainerSpec, HealthCheck, MountType

_CONTAINER: Final = "container:"
_SHORTEST_PROBE_S: Final = 0.001
_LONGEST_S: Final = 2**63 / 1e9  # what Go's durations end at: 292 years
_RESTART_POLICIES: Final = ("", "no", "always", "on-failure", "unless-stopped")
_MAX_HOSTNAME: Final = 64  # __NEW_UTS_LEN


def check_spec(
    spec: ContainerSpec, host: HostFacts, *, runtimes: Collection[str], log_drivers: Collection[str]
) -> tuple[str, ...]:
    """Return warnings for ``spec``.

    Raises:
        InvalidArgumentError: the first thing that is wrong with it.
    """
    for check in _CHECKS:
        check(spec)
    security = spec.security
    check_capabilities(security.cap_add, security.cap_drop, host.capabilities)
    options = parse_security_options(security.options)
    if options.seccomp not in ("", "builtin", "unconfined"):
        own_profile(options.seccomp, host.capabilities)
    if options.apparmor not in ("", "unconfined") and not host.apparmor:
        raise InvalidArgumentError(
            f'invalid --security-opt: AppArmor is not enabled here, profile "{options.apparmor}" cannot be used'
        )
    if spec.runtime and spec.runtime not in runtimes:
        raise InvalidArgumentError(f"unknown or invalid runtime name: {spec.runtime}")
    if spec.log.driver and spec.log.driver not in log_drivers:
        raise InvalidArgumentError(f"logger: no log driver named '{spec.log.driver}' is registered")
    return check_limits(spec.resources, host)


def _process(spec: ContainerSpec) -> None:
    process = spec.process
    if not process.args:
        raise InvalidArgumentError("no command specified")
    for entry in process.env:
        if entry.startswith("=") or not entry:
            raise InvalidArgumentError(f"invalid environment variable: {entry}")
    for text in (*process.args, *process.env, process.working_dir, process.user):
        if "\0" in text:
            raise InvalidArgumentError(f"{text!r} has a NUL byte in it")
    if process.working_dir and not process.working_dir.startswith("/"):
        raise InvalidArgumentError(
            f"the working directory '{process.working_dir}' is invalid, it needs to be an absolute path"
        )
    if spec.stop_signal:
        parse_signal(spec.stop_signal)
    if spec.stop_timeout_s is not None and abs(spec.stop_timeout_s) > _LONGEST_S:
        raise InvalidArgumentError(f"invalid stop timeout: {spec.stop_timeout_s:.0f} s is longer than 292 years")


def _names(spec: ContainerSpec) -> None:
    for name in (spec.hostname, spec.domainname):
        if len(name) > _MAX_HOSTNAME or any(c.isspace() or c in "/\0" for c in name):
            raise InvalidArgumentError(f"invalid hostname format: {name}")
    if spec.namespaces.uts == "host" and (spec.hostname or spec.domainname):
        raise InvalidArgumentError("conflicting options: hostname and the UTS mode")


def _restart_policy(spec: ContainerSpec) -> None:
    policy = spec.restart_policy
    if policy.name not in _RESTART_POLICIES:
        raise InvalidArgumentError(
            f"invalid restart policy: unknown policy '{policy.name}'; "
            "use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if policy.maximum_retries < 0:
        raise InvalidArgumentError("invalid restart policy: maximum retry count cannot be negative")
    if policy.maximum_retries and policy.name != "on-failure":
        raise InvalidArgumentError("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if spec.auto_remove and policy.name not in ("", "no"):
        raise InvalidArgumentError("can't create 'AutoRemove' container with restart policy")


def _namespaces(spec: ContainerSpec) -> None:
    modes = spec.namespaces
    for kind, mode, known in (
        ("PID", modes.pid, ("", "host")),
        ("IPC", modes.ipc, ("", "none", "private", "shareable", "host")),
        ("UTS", modes.uts, ("", "host")),
        ("cgroup namespace", modes.cgroup, ("", "private", "host")),
        ("userns", modes.user, ("", "host")),
    ):
        joins = kind in ("PID", "IPC") and mode.startswith(_CONTAINER) and mode != _CONTAINER
        if mode not in known and not joins:
            raise InvalidArgumentError(f"invalid {kind} mode: {mode}")
    check_sysctls(spec.sysctls, spec)


def _health_check(spec: ContainerSpec) -> None:
    health: HealthCheck | None = spec.health_check
    if health is None:
        return
    for name, value in (
        ("Interval", health.interval_s),
        ("Timeout", health.timeout_s),
        ("StartPeriod", health.start_period_s),
        ("StartInterval", health.start_interval_s),
    ):
        if value and value < _SHORTEST_PROBE_S:
            raise InvalidArgumentError(f"{name} in Healthcheck cannot be less than 1ms")
        if value and value > _LONGEST_S:
            raise InvalidArgumentError(f"{name} in Healthcheck cannot be more than 292 years")
    if health.retries < 0:
        raise InvalidArgumentError("Retries in Healthcheck cannot be negative")
    if health.test and health.test[0] not in ("NONE", "CMD", "CMD-SHELL", ""):
        raise InvalidArgumentError(f"Unknown type in Healthcheck: {health.test[0]}")


def _mounts(spec: ContainerSpec) -> None:
    for mount in spec.mounts:
        if mount.type is MountType.TMPFS:
            tmpfs_options(mount)
    check_devices(spec.resources.devices, spec.resources.device_cgroup_rules)


_CHECKS: Final[tuple[Callable[[ContainerSpec], None], ...]] = (
    _process,
    _names,
    _restart_policy,
    _namespaces,
    _health_check,
    _mounts,
)
