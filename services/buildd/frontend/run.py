"""RUN, as an operation of a graph.

Reference: the Dockerfile reference, "RUN" and its mounts.
"""

import posixpath
from dataclasses import dataclass, field, replace
from typing import Final

from buildd.frontend.step import Mention, Step
from buildd.llb.graph import Change, add_input, change_files
from buildd.llb.ops import (
    CacheMount,
    Device,
    Edge,
    ExecOp,
    MakeDirectory,
    MakeFile,
    Metadata,
    Mount,
    MountType,
    NetMode,
    Node,
    Owner,
    Process,
    ProxyEnv,
    SecretEnv,
    SecretMount,
    SecurityMode,
    Sharing,
    SshMount,
    UserName,
)
from sampan.dockerfile.instructions import Run
from sampan.dockerfile.mounts import RunMount
from sampan.dockerfile.source import HereDocument, here_document_words

_SHARING: Final = {"shared": Sharing.SHARED, "private": Sharing.PRIVATE, "locked": Sharing.LOCKED}
_NETWORKS: Final = {"none": NetMode.NONE, "host": NetMode.HOST}
_SCRIPTS: Final = "/dev/pipes"
_MASK: Final = "****"


@dataclass(slots=True)
class _Mounts:
    """The mounts of one step as they come together."""

    inputs: list[Edge] = field(default_factory=list)
    mounts: list[Mount] = field(default_factory=list)
    secret_env: list[SecretEnv] = field(default_factory=list)


def run(step: Step, instruction: Run, sources: tuple[Edge | None, ...]) -> None:
    """Apply RUN; ``sources`` are what its mounts come from, in their order, None being the empty tree.

    Raises:
        DockerfileError: it cannot be applied.
    """
    state, options = step.state, step.build.options
    args, script, summary = _arguments(step, instruction)
    found = _Mounts()
    found.mounts.append(Mount("/", input=add_input(found.inputs, state.edge), output=0))
    if script is not None:
        found.mounts.append(Mount(_SCRIPTS, input=add_input(found.inputs, _file_of(step, script)), read_only=True))
    for mount, source in zip(instruction.mounts, sources, strict=True):
        _MOUNTS[mount.type](step, mount, source, found)
    if options.shm_bytes:
        found.mounts.append(Mount("/dev/shm", MountType.TMPFS, tmpfs_bytes=options.shm_bytes))  # noqa: S108 - a step's
    devices = [Device(step.expand(each.name), optional=not each.required) for each in instruction.devices]
    op = ExecOp(
        Process(
            args=args,
            env=_with_agent(state.step_env, found.mounts),
            cwd=state.working_directory,
            user=state.run.user,
            proxy_env=ProxyEnv(**options.proxies) if options.proxies else None,
            extra_hosts=options.hosts,
            hostname=options.hostname,
            ulimits=options.ulimits,
            cgroup_parent=options.cgroup_parent,
        ),
        tuple(found.mounts),
        network=_NETWORKS.get(instruction.network, options.network),
        security=SecurityMode.INSECURE if instruction.security == "insecure" else SecurityMode.SANDBOX,
        secret_env=tuple(found.secret_env),
        devices=(*options.devices, *devices),
    )
    masked = {each.name: _MASK for each in found.secret_env}
    name = step.shown(instruction.statement.original + summary, raw=True, masked=masked)
    network_mode = "" if instruction.network in _NETWORKS else options.network_mode
    said = replace(step.metadata(name), limits=options.limits, network_mode=network_mode)
    state.edge = Node(op, tuple(found.inputs), state.platform, said).output()
    state.note(_history(step, args), layer=True)


def _arguments(step: Step, instruction: Run) -> tuple[tuple[str, ...], HereDocument | None, str]:
    """Return the command line, the script that it is if it begins with ``#!``, and what progress adds to the name."""
    if not instruction.shell_form:
        return instruction.words, None, ""
    (text,) = instruction.words
    documents = instruction.statement.here_documents
    if not documents:
        return (*step.state.shell, text), None, ""
    words = list(here_document_words(text, step.build.escape))
    if len(documents) == 1 and words and words[0].span() == (0, len(text)):
        content = documents[0].content
        first, _, more = content.strip().partition("\n")
        summary = f" ({first.rstrip(chr(13))}{'...' if more else ''})"
        if content.startswith("#!"):
            return (*step.state.shell, f"{_SCRIPTS}/{documents[0].name}"), documents[0], summary
        return (*step.state.shell, content), None, summary
    # A shell knows here-documents better than anybody else does: it gets them back.
    text += "".join(f"\n{document.content}{document.name}" for document in documents)
    return (*step.state.shell, text), None, ""


def _file_of(step: Step, document: HereDocument) -> Edge:
    make = MakeFile(f"/{document.name}", 0o755, document.content.encode())
    said = Metadata(name="[internal] preparing inline document")
    return change_files(None, [Change(make)], said, step.state.platform)


def _with_agent(env: tuple[str, ...], mounts: list[Mount]) -> tuple[str, ...]:
    """Return the environment with the way to the first agent, unless it has one."""
    first = next((mount for mount in mounts if mount.type is MountType.SSH), None)
    if first is None or any(entry.startswith("SSH_AUTH_SOCK=") for entry in env):
        return env
    return (*env, f"SSH_AUTH_SOCK={first.dest}")


def _history(step: Step, args: tuple[str, ...]) -> str:
    """Return the history's text: arguments first, as far as they were declared, with what they are now."""
    state = step.state
    values = [f"{name}={state.env.get(name, value or '')}" for name, value in state.arguments.items()]
    return " ".join(("RUN", *((f"|{len(values)}", *values) if values else ()), *args, "# buildkit"))


def _target(step: Step, mount: RunMount) -> str:
    """Return where a mount goes."""
    where = step.state.path(step.expand(mount.target)).rstrip("/") or "/"
    if where == "/":
        raise step.fail('invalid mount target "/"')
    return where


def _bind(step: Step, mount: RunMount, source: Edge | None, found: _Mounts) -> None:
    path = posixpath.normpath(posixpath.join("/", step.expand(mount.source)))
    if not mount.from_stage:
        source = step.build.main_context
        step.trace.context_paths.add(path)
    read_only = True if mount.read_only is None else mount.read_only
    selector = "" if path == "/" else path
    index = add_input(found.inputs, source)
    found.mounts.append(Mount(_target(step, mount), input=index, selector=selector, read_only=read_only))


def _cache(step: Step, mount: RunMount, source: Edge | None, found: _Mounts) -> None:
    where = _target(step, mount)
    path = posixpath.normpath(posixpath.join("/", step.expand(mount.source)))
    selector = "" if path == "/" else path
    if not selector and (mount.mode is not None or mount.uid is not None or mount.gid is not None):
        # What a new cache directory begins as: one with the owner and the mode that were asked for.
        owner = Owner(UserName(number=mount.uid or 0), UserName(number=mount.gid or 0))
        make = MakeDirectory("/cache", 0o755 if mount.mode is None else mount.mode, owner=owner)
        said = Metadata(name="[internal] setting cache mount permissions")
        source, selector = change_files(source, [Change(make)], said, step.state.platform), "/cache"
    name = step.expand(mount.id) or where
    step.trace.caches.setdefault(name, Mention(step.lines))
    cache = CacheMount(f"{step.build.options.cache_namespace}/{name}", _SHARING[mount.sharing])
    index = add_input(found.inputs, source)
    found.mounts.append(
        Mount(where, MountType.CACHE, input=index, selector=selector, read_only=bool(mount.read_only), cache=cache)
    )


def _tmpfs(step: Step, mount: RunMount, _source: Edge | None, found: _Mounts) -> None:
    found.mounts.append(Mount(_target(step, mount), MountType.TMPFS, tmpfs_bytes=mount.size_bytes))


def _secret(step: Step, mount: RunMount, _source: Edge | None, found: _Mounts) -> None:
    target, variable = step.expand(mount.target), step.expand(mount.env)
    name = step.expand(mount.id) or posixpath.basename(target) or variable
    if not name:
        raise step.fail("invalid secret mount. one of source, target required")
    _mention(step.trace.secrets, name, step, mount)
    if variable:
        found.secret_env.append(SecretEnv(name, variable, optional=not mount.required))
        if not target:
            return
    mode = 0o400 if mount.mode is None else mount.mode
    secret = SecretMount(name, mount.uid or 0, mount.gid or 0, mode, optional=not mount.required)
    where = _target(step, mount) if target else f"/run/secrets/{posixpath.basename(name)}"
    found.mounts.append(Mount(where, MountType.SECRET, secret=secret))


def _ssh(step: Step, mount: RunMount, _source: Edge | None, found: _Mounts) -> None:
    name = step.expand(mount.id) or "default"
    _mention(step.trace.agents, name, step, mount)
    mode = 0o600 if mount.mode is None else mount.mode
    agent = SshMount(name, mount.uid or 0, mount.gid or 0, mode, optional=not mount.required)
    earlier = sum(each.type is MountType.SSH for each in found.mounts)
    where = _target(step, mount) if mount.target else f"/run/buildkit/ssh_agent.{earlier}"
    found.mounts.append(Mount(where, MountType.SSH, ssh=agent))


def _mention(mentions: dict[str, Mention], name: str, step: Step, mount: RunMount) -> None:
    earlier = mentions.get(name)
    if earlier is None or (mount.required and not earlier.required):
        mentions[name] = Mention(step.lines, mount.required)


_MOUNTS: Final = {"bind": _bind, "cache": _cache, "tmpfs": _tmpfs, "secret": _secret, "ssh": _ssh}
