"""What kubelet asks a container to be, as what runtimed is asked: every field has its place here, or is refused."""

from dataclasses import replace
from typing import Final

from crid.containers.model import OWNER, Image, container_name, namespaces_of
from crid.containers.mounts import mounts_of
from crid.containers.security import check_security, process_user, security_of
from crid.model.config import ContainerConfig, Device, KeyValue
from crid.model.config import Resources as Asked
from crid.model.security import NamespaceMode, NamespaceOption
from crid.sandboxes.host import Places
from crid.sandboxes.model import Sandbox
from sampan.errors import InvalidArgumentError
from sampan.resource import container_spec as spec

# kubelet probes containers itself; an image's own health check would be a second one.
_NO_HEALTH_CHECK: Final = spec.HealthCheck(test=("NONE",))

_HOSTNAME: Final = "HOSTNAME"

_SANDBOX_LABEL: Final = "io.kubernetes.cri.sandbox-id"
_NAME_LABEL: Final = "io.kubernetes.cri.container-name"


def container_spec(
    sandbox: Sandbox, places: Places, config: ContainerConfig, image: Image, log_path: str
) -> spec.ContainerSpec:
    """Return what runtimed makes the container of, as far as its image has no say. Blocks, for files it is told of.

    Raises:
        InvalidArgumentError: something cannot be meant; the sentence names the field.
        UnimplementedError: something cannot be done here.
    """
    check_security(sandbox, config)
    security, resources = config.linux.security_context, config.linux.resources
    options = namespaces_of(sandbox, config)
    process = spec.Process(
        entrypoint=config.command,
        cmd=config.args,
        env=(*_own_variables(sandbox, config), *map(_variable, config.envs)),
        working_dir=config.working_dir,
        user=process_user(security),
        tty=config.tty,
        open_stdin=config.stdin,
        stdin_once=config.stdin_once,
        additional_groups=tuple(map(str, security.supplemental_groups)),
        strict_groups=security.supplemental_groups_policy.value == "strict",
    )
    return spec.ContainerSpec(
        name=container_name(sandbox, config),
        owner=OWNER,
        image=image.id,
        process=process,
        # What administrators look for beside pods' own labels, which kubelet has in its own form.
        labels={**config.labels, _SANDBOX_LABEL: sandbox.id, _NAME_LABEL: config.metadata.name},
        annotations=config.annotations,
        mounts=mounts_of(sandbox, places, config),
        resources=_limits(resources, sandbox, config),
        security=security_of(config),
        namespaces=namespaces(sandbox, places, options),
        log=spec.LogConfig("cri", {"path": log_path}) if log_path else spec.LogConfig("none"),
        stop_signal=config.stop_signal,
        health_check=_NO_HEALTH_CHECK,
    )


def namespaces(sandbox: Sandbox, places: Places, options: NamespaceOption) -> spec.Namespaces:
    """Return the namespaces of one of a sandbox's containers."""
    users = sandbox.namespaces.mappings
    mapped = [
        tuple(spec.IdMapping(each.container_id, each.host_id, each.length) for each in mappings)
        for mappings in ((users.uids, users.gids) if users is not None else ((), ()))
    ]
    return spec.Namespaces(
        network="host" if sandbox.host_network else f"ns:{places.namespace('net')}",
        uts="host" if sandbox.host_network else f"ns:{places.namespace('uts')}",
        ipc=f"ns:{places.namespace('ipc')}" if sandbox.namespaces.ipc is NamespaceMode.POD else "host",
        pid=_pids(sandbox, options),
        user=f"ns:{places.namespace('user')}" if users is not None else "",
        uid_mappings=mapped[0],
        gid_mappings=mapped[1],
    )


def _pids(sandbox: Sandbox, options: NamespaceOption) -> str:
    match options.pid:
        case NamespaceMode.NODE:
            return "host"
        case NamespaceMode.CONTAINER:
            return ""
        case NamespaceMode.TARGET:
            return f"container:{options.target_id}"
        case NamespaceMode.POD if sandbox.infra:
            return f"container:{sandbox.infra}"
    raise InvalidArgumentError("namespace_options.pid is POD, and the pod sandbox has no pid namespace of its own")


def resources_of(asked: Asked) -> spec.Resources:
    """Return limits, whether a container is made or changed.

    Memory without a word on swap is memory without swap, as kubelet counts it.
    """
    for name in ("cpu_period", "cpu_quota", "cpu_shares", "memory_limit_in_bytes", "memory_swap_limit_in_bytes"):
        least = -1 if name in ("cpu_quota", "memory_swap_limit_in_bytes") else 0
        if getattr(asked, name) < least:
            raise InvalidArgumentError(f"resources.{name} is {getattr(asked, name)}")
    return spec.Resources(
        memory_bytes=asked.memory_limit_in_bytes,
        memory_swap_bytes=asked.memory_swap_limit_in_bytes or asked.memory_limit_in_bytes,
        cpu_shares=asked.cpu_shares,
        cpu_period_us=asked.cpu_period,
        cpu_quota_us=asked.cpu_quota,
        cpuset_cpus=asked.cpuset_cpus,
        cpuset_mems=asked.cpuset_mems,
        oom_score_adj=asked.oom_score_adj,
        hugepage_limits=tuple(spec.HugepageLimit(each.page_size, each.limit) for each in asked.hugepage_limits),
        unified=asked.unified,
    )


def _limits(asked: Asked, sandbox: Sandbox, config: ContainerConfig) -> spec.Resources:
    devices = tuple(map(_device, config.devices))
    named = tuple(each.name for each in config.cdi_devices)
    return replace(
        resources_of(asked),
        cgroup_parent=sandbox.config.linux.cgroup_parent,
        devices=devices,
        device_requests=(spec.DeviceRequest(driver="cdi", device_ids=named),) if named else (),
    )


def _device(device: Device) -> spec.Device:
    if not device.host_path.startswith("/") or not device.container_path.startswith("/"):
        raise InvalidArgumentError(f"devices: {device.host_path!r} to {device.container_path!r}: two absolute paths")
    if not set(device.permissions) <= set("rwm"):
        raise InvalidArgumentError(f"devices: permissions are {device.permissions!r}: expected some of rwm")
    return spec.Device(device.host_path, device.container_path, device.permissions or "rwm")


def _own_variables(sandbox: Sandbox, config: ContainerConfig) -> list[str]:
    """Return the name of a pod that has one of its own: runtimed knows the host's, and the container's ID."""
    name = sandbox.config.hostname
    if not name or sandbox.host_network or any(each.key == _HOSTNAME for each in config.envs):
        return []
    return [f"{_HOSTNAME}={name}"]


def _variable(variable: KeyValue) -> str:
    if not variable.key or "=" in variable.key or "\0" in variable.key:
        raise InvalidArgumentError(f"envs has {variable.key!r}: no name of a variable")
    try:
        value = variable.value.decode()
    except UnicodeDecodeError:
        raise InvalidArgumentError(f"envs: the value of {variable.key} is not UTF-8") from None
    if "\0" in value:
        raise InvalidArgumentError(f"envs: the value of {variable.key} has a NUL byte in it")
    return f"{variable.key}={value}"


def check_container(config: ContainerConfig) -> None:
    """Raise InvalidArgumentError for what cannot be meant, whatever the pod and the image."""
    if config.windows is not None:
        raise InvalidArgumentError("windows: containers of Windows do not run here")
    if not config.metadata.name:
        raise InvalidArgumentError("metadata.name is empty")
    if not config.image.image:
        raise InvalidArgumentError("image.image is empty")
    if config.tty and config.stdin_once and not config.stdin:
        raise InvalidArgumentError("stdin_once needs stdin")
