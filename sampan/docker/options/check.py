"""All of what a container is asked to be, as far as it says by itself that it cannot be meant.

Both fronts look before they do anything, and runtimed looks again: who asks it need not be one of them. What takes a
look at the machine or at other containers, runtimed knows alone.
"""

from typing import Final

from sampan.docker.options.hosts import parse_extra_host
from sampan.docker.options.limits import check_limits
from sampan.docker.options.logs import check_log
from sampan.docker.options.mounts import check_mounts
from sampan.docker.options.namespaces import check_namespaces
from sampan.docker.options.restart import check_restart
from sampan.docker.options.security import parse_security_options
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import ContainerSpec, HealthCheck, MountType

_SHORTEST_PROBE_S: Final = 0.001
_LONGEST_S: Final = 2**63 / 1e9  # what Go's durations end at: 292 years
_MAX_HOSTNAME: Final = 64  # __NEW_UTS_LEN


def check_options(spec: ContainerSpec) -> None:
    """Look at each option of a container, which need not have a command yet: an image may bring it.

    Raises:
        InvalidArgumentError: the first thing that is wrong; in Docker's words.
    """
    directory = spec.process.working_dir
    if directory and not directory.startswith("/"):
        raise InvalidArgumentError(f"the working directory '{directory}' is invalid, it needs to be an absolute path")
    if spec.stop_timeout_s is not None and abs(spec.stop_timeout_s) > _LONGEST_S:
        raise InvalidArgumentError(f"invalid stop timeout: {spec.stop_timeout_s:.0f} s is longer than 292 years")
    if "" in spec.annotations:
        raise InvalidArgumentError("invalid Annotations: the empty string is not permitted as an annotation key")
    _check_names(spec)
    check_restart(spec.restart_policy, auto_remove=spec.auto_remove)
    check_namespaces(spec.namespaces, spec.owner)
    if spec.health_check is not None:
        _check_health(spec.health_check)
    check_mounts(spec.mounts, spec.anonymous_volumes)
    check_log(spec.log, spec.owner)
    check_limits(spec.resources, small=bool(spec.owner))
    parse_security_options(spec.security.options)
    for entry in spec.extra_hosts:
        parse_extra_host(entry)


def warnings(spec: ContainerSpec) -> tuple[str, ...]:
    """Return what whoever asks for such a container is told beside it; in Docker's words."""
    # A volume of -v has the container's driver, one of --mount its own or none.
    if spec.volume_driver and any(one.type is MountType.VOLUME and not one.volume_driver for one in spec.mounts):
        return (
            "WARNING: the container-wide volume-driver configuration is ignored for volumes specified via 'mount'. "
            "Use '--mount type=volume,volume-driver=...' instead",
        )
    return ()


def _check_names(spec: ContainerSpec) -> None:
    for name in (spec.hostname, spec.domainname):
        if len(name) > _MAX_HOSTNAME or any(c.isspace() or c in "/\0" for c in name):
            raise InvalidArgumentError(f"invalid hostname format: {name}")
    if spec.namespaces.uts == "host" and (spec.hostname or spec.domainname):
        raise InvalidArgumentError("conflicting options: hostname and the UTS mode")


def _check_health(health: HealthCheck) -> None:
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
