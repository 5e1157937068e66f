"""From the flags of ``run`` and ``create`` to the engine's message."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from google.protobuf.duration_pb2 import Duration

from sampan.api.runtime.v1 import spec_pb2 as pb
from sampan.errors import InvalidArgumentError
from sampan_cli.options import limits, mounts, networks, ports, variables
from sampan_cli.options.container import ContainerOptions

_STREAMS: Final = ("stdin", "stdout", "stderr")

_NAMESPACES: Final = {
    "pid": ("", "host"),
    "ipc": ("", "none", "private", "shareable", "host"),
    "uts": ("", "host"),
    "cgroupns": ("", "private", "host"),
    "userns": ("", "host"),
}


def build_spec(options: ContainerOptions, environ: Mapping[str, str], directory: Path) -> pb.ContainerSpec:
    """Return what to create; the rest comes from the image.

    ``environ`` gives values to variables that are named without one; ``directory`` is what relative paths are
    relative to. Files that flags name are read here.

    Raises:
        InvalidArgumentError: in Docker's words.
    """
    if options.rm and options.restart not in ("", "no"):
        raise InvalidArgumentError("conflicting options: cannot specify both --restart and --rm")
    spec = pb.ContainerSpec(
        name=options.name,
        image=options.image,
        process=_process(options, environ),
        labels=variables.labels(options.label, options.label_file),
        hostname=options.hostname,
        domainname=options.domainname,
        stop_signal=options.stop_signal,
        resources=_resources(options),
        security=_security(options, directory),
        dns=pb.Dns(servers=options.dns, search=options.dns_search, options=options.dns_option),
        extra_hosts=[_extra_host(text) for text in options.add_host],
        sysctls=variables.pairs(options.sysctl, "sysctl", need_value=True),
        restart_policy=limits.parse_restart(options.restart),
        auto_remove=options.rm,
        log=pb.LogConfig(driver=options.log_driver, options=variables.pairs(options.log_opt, "log option")),
        init=options.init,
        runtime=options.runtime,
        annotations=variables.pairs(options.annotation, "annotation"),
        publish_all_ports=options.publish_all,
    )
    if options.stop_timeout is not None:
        spec.stop_timeout.FromSeconds(options.stop_timeout)
    _add_health_check(spec, options)
    _add_mounts(spec, options, directory)
    _add_network(spec, options)
    return spec


def _process(options: ContainerOptions, environ: Mapping[str, str]) -> pb.Process:
    attached = attached_streams(options)
    process = pb.Process(
        cmd=options.command,
        env=variables.environment(options.env, options.env_file, environ),
        working_dir=_workdir(options.workdir),
        user=options.user,
        tty=options.tty,
        open_stdin=options.interactive,
        attach_stdin="stdin" in attached,
        attach_stdout="stdout" in attached,
        attach_stderr="stderr" in attached,
        stdin_once=options.interactive and "stdin" in attached,
        additional_groups=options.group_add,
    )
    if options.entrypoint is not None:
        process.entrypoint.append(options.entrypoint)  # one empty word: not the image's either
    return process


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


def _workdir(path: str) -> str:
    if path and not path.startswith("/"):
        raise InvalidArgumentError(f"the working directory '{path}' is invalid, it needs to be an absolute path")
    return path


def _resources(options: ContainerOptions) -> pb.Resources:
    if options.nano_cpus and (options.cpu_period or options.cpu_quota):
        raise InvalidArgumentError("conflicting options: --cpus, and --cpu-period or --cpu-quota")
    resources = pb.Resources(
        memory_bytes=options.memory_bytes,
        memory_swap_bytes=options.memory_swap_bytes,
        memory_reservation_bytes=options.memory_reservation_bytes,
        nano_cpus=options.nano_cpus,
        cpu_shares=options.cpu_shares,
        cpu_period_us=options.cpu_period,
        cpu_quota_us=options.cpu_quota,
        cpuset_cpus=options.cpuset_cpus,
        cpuset_mems=options.cpuset_mems,
        pids_limit=options.pids_limit,
        blkio_weight=options.blkio_weight,
        oom_kill_disable=options.oom_kill_disable,
        oom_score_adj=options.oom_score_adj,
        ulimits=[limits.parse_ulimit(text) for text in options.ulimit],
        devices=[limits.parse_device(text) for text in options.device],
        device_cgroup_rules=options.device_cgroup_rule,
        shm_size_bytes=options.shm_size_bytes,
        cgroup_parent=options.cgroup_parent,
    )
    if options.memory_swappiness != -1:
        if not 0 <= options.memory_swappiness <= 100:
            raise InvalidArgumentError(
                f"invalid value: {options.memory_swappiness}. Valid memory swappiness range is 0-100"
            )
        resources.memory_swappiness = options.memory_swappiness
    return resources


def _security(options: ContainerOptions, directory: Path) -> pb.Security:
    return pb.Security(
        privileged=options.privileged,
        cap_add=options.cap_add,
        cap_drop=options.cap_drop,
        read_only_root=options.read_only,
        options=[_security_option(text, directory) for text in options.security_opt],
    )


def _security_option(text: str, directory: Path) -> str:
    """Put a seccomp profile's content in place of its name: the engine does not read the client's files."""
    key, separator, value = text.partition("=")
    if not separator and text != "no-new-privileges":
        key, separator, value = text.partition(":")
        if not separator:
            raise InvalidArgumentError(f"invalid --security-opt: {text!r}")
    if key != "seccomp" or value in ("unconfined", "builtin"):
        return text
    try:
        return f"seccomp={(directory / value).read_text()}"
    except OSError as error:
        raise InvalidArgumentError(f"opening seccomp profile ({value}) failed: {error.strerror}") from error


def _extra_host(text: str) -> str:
    """Accept ``host:address`` and ``host=address``; an IPv6 address may be in brackets."""
    name, separator, address = text.partition("=" if "=" in text else ":")
    if not separator or not name or not address:
        raise InvalidArgumentError(f'bad format for add-host: "{text}"')
    return f"{name}:{address.removeprefix('[').removesuffix(']')}"


def _add_health_check(spec: pb.ContainerSpec, options: ContainerOptions) -> None:
    check = pb.HealthCheck(retries=options.health_retries)
    if options.health_cmd:
        check.test.extend(("CMD-SHELL", options.health_cmd))
    for name in ("interval", "timeout", "start_period", "start_interval"):
        nanoseconds: int = getattr(options, f"health_{name}_ns")
        if nanoseconds:
            duration = Duration()
            duration.FromNanoseconds(nanoseconds)
            getattr(check, name).CopyFrom(duration)
    if options.no_healthcheck:
        if check != pb.HealthCheck():
            raise InvalidArgumentError("--no-healthcheck conflicts with --health-* options")
        check.test.append("NONE")
    if check != pb.HealthCheck():
        spec.health_check.CopyFrom(check)


def _add_mounts(spec: pb.ContainerSpec, options: ContainerOptions, directory: Path) -> None:
    for text in options.volume:
        parsed = mounts.parse_volume(text, directory)
        if isinstance(parsed, str):
            spec.anonymous_volumes.append(parsed)
        else:
            if parsed.type == pb.Mount.VOLUME:
                parsed.volume_driver = options.volume_driver
            spec.mounts.append(parsed)
    spec.mounts.extend(mounts.parse_tmpfs(text) for text in options.tmpfs)
    spec.mounts.extend(mounts.parse_mount(text, directory) for text in options.mount)
    taken: set[str] = set()
    for mount in spec.mounts:
        if mount.target in taken:
            raise InvalidArgumentError(f"Duplicate mount point: {mount.target}")
        taken.add(mount.target)


def _add_network(spec: pb.ContainerSpec, options: ContainerOptions) -> None:
    for name, allowed in _NAMESPACES.items():
        value: str = getattr(options, name)
        if value not in allowed and not (name in ("pid", "ipc") and value.startswith("container:")):
            raise InvalidArgumentError(f"--{name}: invalid {name.removesuffix('ns').upper()} mode")
    flags = networks.NetworkFlags(
        options.network, options.network_alias, options.ip, options.ip6, options.mac_address, options.link
    )
    mode, endpoints = networks.parse_networks(flags)
    spec.namespaces.CopyFrom(
        pb.Namespaces(
            network=mode,
            pid=options.pid,
            ipc=options.ipc,
            uts=options.uts,
            cgroup=options.cgroupns,
            user=options.userns,
        )
    )
    spec.endpoints.extend(endpoints)
    published = [publication for text in options.publish for publication in ports.parse_publish(text)]
    exposed = [publication.exposed for publication in published]
    exposed += [port for text in options.expose for port in ports.parse_expose(text)]
    spec.exposed_ports.extend(dict.fromkeys(exposed))
    for publication in published:
        spec.ports.add(
            container_port=publication.container_port,
            protocol=publication.protocol,
            host_ip=publication.host_ip,
            host_port=publication.host_port,
            host_port_end=publication.host_port_end,
        )
