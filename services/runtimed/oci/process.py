"""The ``process`` object of a bundle, for a container's first process and for execs."""

import errno
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

from runtimed.containers.hostname import hostname_of
from runtimed.host.facts import HostFacts
from runtimed.oci.mounts import INIT_TARGET
from runtimed.oci.resources import oci_rlimits, oom_score
from runtimed.oci.rootfs import RootFs
from runtimed.oci.security.capabilities import oci_capabilities, security_capabilities
from runtimed.oci.users import User, resolve_user
from runtimed.protocol import ExecProcess
from sampan.docker.options.security import SecurityOptions
from sampan.errors import StartError
from sampan.resource.container import Container, ProcessUser
from sampan.resource.container_spec import ConsoleSize, ContainerSpec, Process

_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def build_process(
    container: Container,
    root: RootFs,
    host: HostFacts,
    options: SecurityOptions,
    *,
    mounted: Sequence[str],
    init: bool,
    linked: Sequence[str] = (),
) -> dict[str, object]:
    """Return the container's first process; its working directory is made in ``root`` unless a mount covers it.

    Raises:
        StartError: no command, an unknown user, or a working directory that cannot be one.
    """
    spec = container.spec
    first = spec.process
    user = resolve_user(root, first.user, first.additional_groups, strict=first.strict_groups)
    if not spec.process.args:
        raise StartError("no command specified")
    args = (INIT_TARGET, "--", *spec.process.args) if init else spec.process.args
    env = environment(container, host, spec.process, user, linked)
    cwd = _make_working_directory(root, spec.process.working_dir, mounted)
    process = _process(spec, spec.process, user, host, options, privileged=spec.security.privileged)
    return process | {"args": list(args), "env": env, "cwd": cwd}


def process_user(config: Mapping[str, object]) -> ProcessUser:
    """Return who a bundle's first process is."""
    process = cast("Mapping[str, Mapping[str, int]]", config["process"])
    user = process["user"]
    return ProcessUser(user["uid"], user["gid"], tuple(cast("Sequence[int]", user.get("additionalGids", ()))))


def build_exec(
    container: Container, root: RootFs, host: HostFacts, options: SecurityOptions, request: ExecProcess
) -> dict[str, object]:
    """Return a further process: the container's user, environment and directory where it names none of its own.

    Raises:
        StartError: no command, or an unknown user.
    """
    spec, asked = container.spec, request.process
    if not asked.args:
        raise StartError("No exec command specified")
    extra = (*spec.process.additional_groups, *asked.additional_groups)
    user = resolve_user(root, asked.user or spec.process.user, extra, strict=spec.process.strict_groups)
    env = environment(container, host, asked, user, request.linked)
    cwd = asked.working_dir or spec.process.working_dir or "/"
    _refuse_descriptors(posixpath.normpath(cwd))
    process = _process(spec, asked, user, host, options, privileged=request.privileged or spec.security.privileged)
    return process | {"args": list(asked.args), "env": env, "cwd": cwd}


def environment(
    container: Container, host: HostFacts, asked: Process, user: User, linked: Sequence[str] = ()
) -> list[str]:
    """Return the environment: defaults, ``linked``, the container's entries, then those of ``asked``; later ones win.

    An entry without ``=`` takes a variable away.
    """
    variables = {"PATH": _PATH, "HOSTNAME": hostname_of(container, host.hostname)}
    if asked.tty:
        variables["TERM"] = "xterm"
    entries = container.spec.process.env if asked is container.spec.process else (
        *container.spec.process.env, *asked.env
    )  # fmt: skip
    _apply(variables, (*linked, *entries))
    # The runtime would read the same files for it, but not with the same care.
    variables.setdefault("HOME", user.home)
    return [f"{name}={value}" for name, value in variables.items()]


def _apply(variables: dict[str, str], entries: Iterable[str]) -> None:
    for entry in entries:
        name, separator, value = entry.partition("=")
        if separator:
            variables[name] = value
        else:
            variables.pop(name, None)


def _process(
    spec: ContainerSpec, asked: Process, user: User, host: HostFacts, options: SecurityOptions, *, privileged: bool
) -> dict[str, object]:
    security = spec.security
    capabilities, ambient = security_capabilities(security, host.capabilities, privileged=privileged)
    process: dict[str, object] = {
        "terminal": asked.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "capabilities": oci_capabilities(capabilities, user.uid, ambient),
        "noNewPrivileges": options.no_new_privileges,
    }
    if asked.tty and asked.console_size:
        process["consoleSize"] = _size(asked.console_size)
    rlimits = oci_rlimits(spec.resources.ulimits, host)
    if rlimits:
        process["rlimits"] = rlimits
    score = oom_score(spec.resources.oom_score_adj, host)
    if score is not None:
        process["oomScoreAdj"] = score
    if host.apparmor and options.apparmor and not privileged:
        process["apparmorProfile"] = options.apparmor
    if label := selinux_label(options.labels, host):
        process["selinuxLabel"] = label
    return process


def _size(size: ConsoleSize) -> dict[str, object]:
    return {"height": size.height, "width": size.width}


def selinux_label(labels: Sequence[str], host: HostFacts) -> str:
    """Compose ``user:role:type:level`` from ``label=type:…``; empty without a type, or with ``label=disable``."""
    if not host.selinux or "disable" in labels:
        return ""
    parts = {name: value for name, _, value in (label.partition(":") for label in labels)}
    if "type" not in parts:
        return ""
    return ":".join(
        (parts.get("user", "system_u"), parts.get("role", "system_r"), parts["type"], parts.get("level", "s0"))
    )


def _make_working_directory(root: RootFs, asked: str, mounted: Sequence[str]) -> str:
    cwd = posixpath.normpath(asked or "/")
    if cwd.startswith("//"):  # POSIX keeps two slashes, and so does normpath
        cwd = cwd[1:]
    if not cwd.startswith("/"):
        raise StartError(f"the working directory '{asked}' is invalid, it needs to be an absolute path")
    _refuse_descriptors(cwd)
    if any(_covers(target, cwd) for target in mounted):
        return cwd  # what is there comes with the mount; the runtime makes what is missing
    try:
        resolved = root.make_directory(cwd)
    except NotADirectoryError as error:
        raise StartError(f"Cannot mkdir: {cwd} is not a directory") from error
    except OSError as error:
        reason = "too many links" if error.errno == errno.ELOOP else error.strerror
        raise StartError(f"Cannot mkdir: {cwd}: {reason}") from error
    _refuse_descriptors(resolved)
    return cwd if any(_covers(target, resolved) for target in mounted) else resolved


def _covers(target: str, path: str) -> bool:
    return target != "/" and (path == target or path.startswith(target + "/"))


def _refuse_descriptors(cwd: str) -> None:
    """Refuse a directory in a process's part of /proc: its links lead out of the container."""
    parts = cwd.split("/")
    if len(parts) > 2 and parts[1] == "proc" and (parts[2] in ("self", "thread-self") or parts[2].isdigit()):
        raise StartError(f"the working directory '{cwd}' is invalid: it is inside a process's directory in /proc")
