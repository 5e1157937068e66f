"""From the flags of ``run`` and ``create`` to the engine's value."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Final

from sampan.docker.options.check import check_options
from sampan.docker.options.devices import cdi_request, is_cdi_name, parse_device
from sampan.docker.options.hosts import parse_extra_host
from sampan.docker.options.limits import check_storage_options
from sampan.docker.options.ports import parse_exposed
from sampan.docker.options.restart import parse_restart
from sampan.docker.options.security import split_option
from sampan.docker.options.ulimits import parse_ulimit
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import (
    ContainerSpec,
    DeviceRequest,
    Dns,
    HealthCheck,
    LogConfig,
    Mount,
    Namespaces,
    Process,
    Resources,
    Security,
)
from sampan_cli.options import mounts, networks, ports, variables
from sampan_cli.options.container import ContainerOptions

_SECOND_NS: Final = 1_000_000_000
_STREAMS: Final = ("stdin", "stdout", "stderr")

# Limits that a flag gives as they are: a new one is a flag in ``container`` and nothing here.
_COPIED: Final = tuple(
    sorted(
        {field.name for field in fields(Resources)}
        & {field.name for field in fields(ContainerOptions)} - {"memory_swappiness"}
    )
)


def build_spec(options: ContainerOptions, environ: Mapping[str, str], directory: Path) -> ContainerSpec:
    """Return what to create; the rest comes from the image.

    ``environ`` gives values to variables that are named without one; ``directory`` is what relative paths are
    relative to. Files that flags name are read here.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    mode, endpoints = networks.parse_networks(
        networks.NetworkFlags(
            options.network,
            options.network_alias,
            options.ip,
            options.ip6,
            options.mac_address,
            options.link,
            options.link_local_ip,
        )
    )
    published = [publication for text in options.publish for publication in ports.parse_publish(text)]
    exposed = [f"{one.container_port}/{one.protocol}" for one in published]
    exposed += parse_exposed(options.expose)
    mounted, anonymous = _mounts(options, directory)
    spec = ContainerSpec(
        name=options.name,
        image=options.image,
        process=_process(options, environ),
        labels=variables.labels(options.label, options.label_file),
        hostname=options.hostname,
        domainname=options.domainname,
        stop_signal=options.stop_signal,
        stop_timeout_s=options.stop_timeout,
        exposed_ports=tuple(dict.fromkeys(exposed)),
        mounts=mounted,
        anonymous_volumes=anonymous,
        resources=_resources(options),
        security=_security(options, directory),
        namespaces=Namespaces(mode, options.pid, options.ipc, options.uts, options.cgroupns, options.userns),
        endpoints=endpoints,
        ports=tuple(published),
        publish_all_ports=options.publish_all,
        dns=Dns(tuple(options.dns), tuple(options.dns_search), tuple(options.dns_option)),
        extra_hosts=tuple(":".join(parse_extra_host(text)) for text in options.add_host),
        sysctls=variables.pairs(options.sysctl, "sysctl", need_value=True),
        restart_policy=parse_restart(options.restart),
        auto_remove=options.rm,
        log=LogConfig(options.log_driver, dict(text.partition("=")[::2] for text in options.log_opt)),
        init=options.init,
        runtime=options.runtime,
        health_check=_health_check(options),
        annotations=variables.pairs(options.annotation, "annotation"),
        volume_driver=options.volume_driver,
    )
    check_options(spec)
    check_storage_options(dict(text.partition("=")[::2] for text in options.storage_opt))
    return spec


def _process(options: ContainerOptions, environ: Mapping[str, str]) -> Process:
    attached = attached_streams(options)
    return Process(
        # One empty word: not the image's either.
        entrypoint=() if options.entrypoint is None else (options.entrypoint,),
        cmd=tuple(options.command),
        env=tuple(variables.environment(options.env, options.env_file, environ)),
        working_dir=options.workdir,
        user=options.user,
        tty=options.tty,
        open_stdin=options.interactive,
        attach_stdin="stdin" in attached,
        attach_stdout="stdout" in attached,
        attach_stderr="stderr" in attached,
        stdin_once=options.interactive and "stdin" in attached,
        additional_groups=tuple(options.group_add),
    )


def attached_streams(options: ContainerOptions) -> tuple[str, ...]:
    """Return the streams that the client attaches to when it does not detach.

    Raises:
        InvalidArgumentError: an unknown stream.
    """
    named = tuple(name.lower() for name in options.attach)
    for name in named:
        if name not in _STREAMS:
            raise InvalidArgumentError(f'invalid argument "{name}" for "-a, --attach" flag: valid streams are STDIN, '
                                       "STDOUT and STDERR")  # fmt: skip
    return named or (_STREAMS if options.interactive else _STREAMS[1:])


def _resources(options: ContainerOptions) -> Resources:
    same = {name: getattr(options, name) for name in _COPIED}
    return Resources(
        **same,
        ulimits=tuple(parse_ulimit(text) for text in options.ulimit),
        devices=tuple(parse_device(text) for text in options.device if not is_cdi_name(text)),
        device_requests=_device_requests(options),
        device_cgroup_rules=tuple(options.device_cgroup_rule),
        memory_swappiness=None if options.memory_swappiness == -1 else options.memory_swappiness,
    )


def _device_requests(options: ContainerOptions) -> tuple[DeviceRequest, ...]:
    names = tuple(text for text in options.device if is_cdi_name(text))
    gpus = (options.gpus,) if options.gpus is not None else ()
    return (*gpus, cdi_request(names)) if names else gpus


def _security(options: ContainerOptions, directory: Path) -> Security:
    return Security(
        privileged=options.privileged,
        cap_add=tuple(options.cap_add),
        cap_drop=tuple(options.cap_drop),
        read_only_root=options.read_only,
        options=tuple(_security_option(text, directory) for text in options.security_opt),
    )


def _security_option(text: str, directory: Path) -> str:
    """Put a seccomp profile's content in place of its name: the engine does not read the client's files."""
    key, value = split_option(text)
    if key != "seccomp" or value in (None, "unconfined", "builtin"):
        return text
    try:
        return f"seccomp={(directory / value).read_text()}"
    except OSError as error:
        raise InvalidArgumentError(f"opening seccomp profile ({value}) failed: {error.strerror}") from error


def _health_check(options: ContainerOptions) -> HealthCheck | None:
    check = HealthCheck(
        test=("CMD-SHELL", options.health_cmd) if options.health_cmd else (),
        interval_s=options.health_interval_ns / _SECOND_NS,
        timeout_s=options.health_timeout_ns / _SECOND_NS,
        start_period_s=options.health_start_period_ns / _SECOND_NS,
        start_interval_s=options.health_start_interval_ns / _SECOND_NS,
        retries=options.health_retries,
    )
    given = check != HealthCheck()
    if not options.no_healthcheck:
        return check if given else None
    if given:
        raise InvalidArgumentError("--no-healthcheck conflicts with --health-* options")
    return HealthCheck(("NONE",))


def _mounts(options: ContainerOptions, directory: Path) -> tuple[tuple[Mount, ...], tuple[str, ...]]:
    """Return the mounts, and the targets of anonymous volumes."""
    result: list[Mount] = []
    anonymous: list[str] = []
    for text in options.volume:
        parsed = mounts.parse_volume(text, directory, options.volume_driver)
        if isinstance(parsed, str):
            anonymous.append(parsed)
        else:
            result.append(parsed)
    result += [mounts.parse_tmpfs(text) for text in options.tmpfs]
    result += [mounts.parse_mount(text, directory) for text in options.mount]
    return tuple(result), tuple(anonymous)
