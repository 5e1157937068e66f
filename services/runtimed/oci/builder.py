"""Bundles for OCI runtimes (runtime-spec 1.1): the ``config.json`` that Docker's engine would write."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

from runtimed.cgroups.naming import CgroupNames, is_scope, oci_path
from runtimed.cgroups.units import annotations
from runtimed.containers.check import check_spec, enforced
from runtimed.containers.hostname import hostname_of
from runtimed.host.facts import HostFacts
from runtimed.oci.devices.cdi import read_devices
from runtimed.oci.devices.cdi_edits import inject
from runtimed.oci.devices.nodes import oci_devices
from runtimed.oci.mounts import build_mounts, targets
from runtimed.oci.namespaces import host_cgroup_namespace, oci_mappings, oci_namespaces, oci_sysctls
from runtimed.oci.process import build_exec, build_process, selinux_label
from runtimed.oci.resources import oci_resources
from runtimed.oci.rootfs import RootFs
from runtimed.oci.security.capabilities import security_capabilities
from runtimed.oci.security.seccomp import default_profile, own_profile
from runtimed.protocol import NO_JOINS, ExecProcess, Joins
from sampan.docker.options.security import MASKED_PATHS, READONLY_PATHS, SecurityOptions, parse_security_options
from sampan.errors import ConflictError, StartError
from sampan.resource.container import Container
from sampan.resource.container_spec import ContainerSpec, Resources, Security

_OCI_VERSION: Final = "1.0.2"  # what the fields in use need; older runtimes refuse a newer number


class OciBundles:
    """Satisfies ``protocol.Bundles``; holds nothing that changes."""

    def __init__(
        self, host: HostFacts, *, cgroups: CgroupNames, runtimes: Collection[str], cdi_spec_dirs: Sequence[str] = ()
    ) -> None:
        """``check`` accepts the runtimes given."""
        self._host = host
        self._cgroups = cgroups
        self._runtimes = frozenset(runtimes)
        self._cdi_spec_dirs = tuple(cdi_spec_dirs)

    def cgroup_path(self, container_id: str, spec: ContainerSpec) -> str:
        """Return the cgroup that a container gets; absolute, at the root of each tree. InvalidArgumentError."""
        return self._cgroups.path(container_id, spec.resources.cgroup_parent, owned=bool(spec.owner))

    def cgroup_namespace(self, spec: ContainerSpec) -> str:
        """Return which one a container has, which need not say: ``private`` or ``host``."""
        return "host" if host_cgroup_namespace(spec, self._host.layout) else "private"

    def check(self, spec: ContainerSpec) -> tuple[str, ...]:
        """Validate what takes a look at the machine; return warnings. InvalidArgumentError in Docker's words."""
        return check_spec(spec, self._host, runtimes=self._runtimes)

    def enforced(self, resources: Resources) -> Resources:
        """Return the limits without those that cannot be enforced here, of which ``check`` warns."""
        return enforced(resources, self._host)

    def config(
        self, container: Container, root: Path, *, files: Path, init_path: str | None, joins: Joins = NO_JOINS
    ) -> dict[str, object]:
        """Return the OCI ``config.json`` for ``root``; see ``protocol.Bundles``."""
        spec = container.spec
        init = bool(spec.init) and not spec.namespaces.pid
        if init and init_path is None:
            raise StartError(
                'exec: "docker-init": executable file not found in $PATH: install tini, or say where another is '
                "by init_path in runtimed.toml"
            )
        options = parse_security_options(spec.security.options)
        mounts = build_mounts(
            container,
            files=files,
            init_path=init_path if init else None,
            joins=joins,
            writable_cgroups=options.writable_cgroups,
            recursive_read_only=self._host.is_at_least(5, 12),  # mount_setattr(2)
        )
        with RootFs(root) as inside:
            process = build_process(
                container,
                inside,
                self._host,
                options,
                mounted=targets(mounts.mounts),
                init=init,
                linked=joins.variables,
            )
        linux = self._linux(container, options, joins, mounts.root_propagation)
        config: dict[str, object] = {
            "ociVersion": _OCI_VERSION,
            "root": {"path": str(root), "readonly": spec.security.read_only_root},
            "process": process,
            "mounts": [mount.oci() for mount in mounts.mounts],
            "annotations": {**spec.annotations, **self._own_annotations(container, linux)},
            "linux": linux,
        }
        if not spec.namespaces.uts:
            config["hostname"] = hostname_of(container, self._host.hostname)
        if spec.resources.device_requests:
            inject(config, spec.resources.device_requests, read_devices(self._cdi_spec_dirs))
        return config

    def _own_annotations(self, container: Container, linux: Mapping[str, object]) -> dict[str, str]:
        path = container.cgroup_path or self.cgroup_path(container.id, container.spec)
        if not is_scope(path):
            return {}
        # crun would put the processes and all limits into a group below the scope, where neither we nor systemd look.
        own = {"run.oci.systemd.subgroup": ""}
        return own | annotations(cast("Mapping[str, object]", linux["resources"]))

    def exec_process(self, container: Container, root: Path, request: ExecProcess) -> dict[str, object]:
        """Return the OCI ``process`` object for an exec; see ``protocol.Bundles``."""
        options = parse_security_options(container.spec.security.options)
        try:
            inside = RootFs(root)
        except (FileNotFoundError, ProcessLookupError) as error:  # it ended just now
            raise ConflictError(f"container {container.id} is not running") from error
        with inside:
            return build_exec(container, inside, self._host, options, request)

    def _linux(
        self, container: Container, options: SecurityOptions, joins: Joins, root_propagation: str
    ) -> dict[str, object]:
        spec = container.spec
        security = spec.security
        resources = spec.resources
        masked, readonly = _hidden_paths(security, options)
        nodes, rules = oci_devices(resources.devices, resources.device_cgroup_rules, privileged=security.privileged)
        linux: dict[str, object] = {
            "cgroupsPath": oci_path(container.cgroup_path or self.cgroup_path(container.id, spec)),
            "namespaces": oci_namespaces(container, joins, self._host.layout),
            "resources": oci_resources(resources, self._host, rules),
            "sysctl": oci_sysctls(spec),
            "devices": nodes,
            "maskedPaths": masked,
            "readonlyPaths": readonly,
        }
        if spec.namespaces.uid_mappings:  # also where it joins one that is there: runtimes look for them
            linux["uidMappings"] = oci_mappings(spec.namespaces.uid_mappings)
            linux["gidMappings"] = oci_mappings(spec.namespaces.gid_mappings)
        if label := selinux_label(options.labels, self._host):
            linux["mountLabel"] = label
        if root_propagation:
            linux["rootfsPropagation"] = root_propagation
        seccomp = self._seccomp(spec, options)
        if seccomp is not None:
            linux["seccomp"] = seccomp
        return linux

    def _seccomp(self, spec: ContainerSpec, options: SecurityOptions) -> dict[str, object] | None:
        security = spec.security
        if not self._host.seccomp or options.seccomp == "unconfined":
            return None
        if security.privileged and not options.seccomp:
            return None
        capabilities, _ = security_capabilities(security, self._host.capabilities, privileged=security.privileged)
        if options.seccomp in ("", "builtin"):
            return default_profile(capabilities)
        return own_profile(options.seccomp, capabilities)


def _hidden_paths(security: Security, options: SecurityOptions) -> tuple[list[str], list[str]]:
    """Return the paths to mask and those to make read-only."""
    if security.privileged or not options.system_paths_confined:
        return [], []
    if security.own_paths:
        return list(security.masked_paths), list(security.readonly_paths)
    return [*MASKED_PATHS, *_throttle_paths()], list(READONLY_PATHS)


def _throttle_paths() -> list[str]:
    """How hot each core has been tells neighbours apart; the path is there once per CPU, on some machines only."""
    return sorted(map(str, Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")))
