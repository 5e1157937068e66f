"""``pb.Op`` to operations. What cannot be is refused by name: a client's graph is a stranger's."""

import enum
from collections.abc import Mapping
from typing import TypeVar

from buildd.llb.ops import (
    NO_INPUT,
    NO_OUTPUT,
    Action,
    CacheMount,
    Copy,
    Device,
    DiffOp,
    ExecOp,
    FileAction,
    FileOp,
    HostAddress,
    MakeDirectory,
    MakeFile,
    MakeSymlink,
    MergeOp,
    Metadata,
    Mount,
    MountType,
    NetMode,
    Op,
    Owner,
    Process,
    ProxyEnv,
    Remove,
    SecretEnv,
    SecretMount,
    SecurityMode,
    Sharing,
    SourceOp,
    SshMount,
    Ulimit,
    UserName,
)
from buildd.wire.llb.encode import CUSTOM_NAME
from sampan.api.buildkit.solver.v1 import ops_pb2 as pb
from sampan.build.progress import Position, ProgressGroup
from sampan.docker.options.limits import check_limits
from sampan.errors import InvalidArgumentError, UnimplementedError
from sampan.oci.platform import Platform
from sampan.resource.container_spec import Resources

E = TypeVar("E", bound=enum.Enum)


def op_from_proto(message: pb.Op) -> Op:
    """Return an operation.

    Raises:
        InvalidArgumentError: something that it cannot be without is missing, or an input or output is out of range.
        UnimplementedError: an operation that is not carried out here.
    """
    if message.constraints.filter:
        raise UnimplementedError(f"worker constraint {message.constraints.filter[0]!r} is not supported")
    inputs = len(message.inputs)
    match message.WhichOneof("op"):
        case "exec":
            return _exec(message.exec, inputs)
        case "source":
            if inputs:
                raise InvalidArgumentError(f"invalid source op with {inputs} inputs")
            if not message.source.identifier:
                raise InvalidArgumentError("invalid source operation without an identifier")
            return SourceOp(message.source.identifier, dict(message.source.attrs))
        case "file":
            return _file(message.file, inputs)
        case "merge":
            if len(message.merge.inputs) != inputs:
                inner = len(message.merge.inputs)
                raise InvalidArgumentError(f"invalid merge op with {inner} inner inputs and {inputs} outer inputs")
            return MergeOp(tuple(_input(each.input, inputs, "merge") for each in message.merge.inputs))
        case "diff":
            return _diff(message.diff, inputs)
        case None:
            raise InvalidArgumentError("invalid operation: it says nothing that this builder knows")
        case kind:
            raise UnimplementedError(f"LLB operation {kind} is not supported")


def outputs_of(op: Op) -> int:
    """Return how many outputs an operation has."""
    if isinstance(op, ExecOp):
        return max((mount.output for mount in op.mounts), default=NO_OUTPUT) + 1
    if isinstance(op, FileOp):
        return max(action.output for action in op.actions) + 1
    return 1


def platform_from_proto(message: pb.Platform) -> Platform:
    """Return a platform."""
    return Platform(message.OS or "linux", message.Architecture, message.Variant)


def metadata_from_proto(message: pb.OpMetadata, positions: tuple[Position, ...], op: Op) -> Metadata:
    """Return what is said about a step. InvalidArgumentError: limits that cannot be."""
    given = message.linux_resources
    limits = Resources(
        memory_bytes=given.memory,
        memory_swap_bytes=given.memorySwap,
        cpu_shares=given.cpuShares,
        cpu_period_us=given.cpuPeriod,
        cpu_quota_us=given.cpuQuota,
        cpuset_cpus=given.cpusetCpus,
        cpuset_mems=given.cpusetMems,
    )
    check_limits(limits)
    description = dict(message.description)
    group = message.progress_group
    return Metadata(
        name=description.pop(CUSTOM_NAME, "") or shown_name(op),
        ignore_cache=message.ignore_cache,
        positions=positions,
        progress_group=ProgressGroup(group.id, group.name, group.weak) if message.HasField("progress_group") else None,
        description=description,
        limits=limits,
    )


def shown_name(op: Op) -> str:
    """Return what progress shows of a step that has no name."""
    match op:
        case SourceOp(identifier):
            return identifier
        case ExecOp(process):
            return " ".join(process.args)
        case FileOp(actions):
            return ", ".join(_action_name(each.action) for each in actions)
        case MergeOp():
            return "merge"
        case DiffOp():
            return "diff"


def _action_name(action: Action) -> str:
    match action:
        case Copy(src, dest):
            return f"copy {src} {dest}"
        case MakeFile(path):
            return f"mkfile {path}"
        case MakeDirectory(path):
            return f"mkdir {path}"
        case MakeSymlink(target, path):
            return f"symlink {target} {path}"
        case Remove(path):
            return f"rm {path}"


def _input(index: int, inputs: int, what: str) -> int:
    if not NO_INPUT <= index < inputs:
        raise InvalidArgumentError(f"invalid {what} operation: it names input {index} and has {inputs}")
    return index


def _member(kind: type[E], value: int, what: str) -> E:
    try:
        return kind(value)
    except ValueError as error:
        raise InvalidArgumentError(f"invalid {what} {value}") from error


def _diff(message: pb.DiffOp, inputs: int) -> DiffOp:
    if not message.HasField("lower") or not message.HasField("upper"):
        raise InvalidArgumentError("invalid diff op with nil lower or upper input")
    sides = message.lower.input, message.upper.input
    inner = sum(each != NO_INPUT for each in sides)  # a side without one is the empty tree
    if inner != inputs:
        raise InvalidArgumentError(f"invalid diff op with {inner} inner inputs and {inputs} outer inputs")
    lower, upper = (_input(each, inputs, "diff") for each in sides)
    return DiffOp(lower, upper)


def _exec(message: pb.ExecOp, inputs: int) -> ExecOp:
    if not message.HasField("meta"):
        raise InvalidArgumentError("invalid exec op with no meta")
    if not message.meta.args:
        raise InvalidArgumentError("invalid exec op with no args")
    if not message.mounts:
        raise InvalidArgumentError("invalid exec op with no mounts")
    mounts = tuple(mount_from_proto(each, inputs) for each in message.mounts)
    roots = sum(mount.dest == "/" for mount in mounts)
    if not roots:
        raise InvalidArgumentError("invalid exec op with no rootfs")
    if roots > 1:
        raise InvalidArgumentError("invalid exec operation: exactly one mount is its root, at /")
    outputs = sorted(mount.output for mount in mounts if mount.output != NO_OUTPUT)
    if outputs != list(range(len(outputs))):
        raise InvalidArgumentError("invalid exec operation: outputs count from 0, one for each mount that has one")
    return ExecOp(
        _process(message.meta),
        mounts,
        _member(NetMode, message.network, "network mode"),
        _member(SecurityMode, message.security, "security mode"),
        tuple(SecretEnv(each.ID, each.name, each.optional) for each in message.secretenv),
        tuple(Device(each.name, each.optional) for each in message.cdiDevices),
    )


def _process(meta: pb.Meta) -> Process:
    proxy = meta.proxy_env
    return Process(
        args=tuple(meta.args),
        env=tuple(meta.env),
        cwd=meta.cwd or "/",
        user=meta.user,
        proxy_env=ProxyEnv(proxy.http_proxy, proxy.https_proxy, proxy.ftp_proxy, proxy.no_proxy, proxy.all_proxy)
        if meta.HasField("proxy_env")
        else None,
        extra_hosts=tuple(HostAddress(each.Host, each.IP) for each in meta.extraHosts),
        hostname=meta.hostname,
        ulimits=tuple(Ulimit(each.Name, each.Soft, each.Hard) for each in meta.ulimit),
        cgroup_parent=meta.cgroupParent,
        valid_exit_codes=tuple(meta.validExitCodes),
    )


def mount_from_proto(message: pb.Mount, inputs: int) -> Mount:
    """Return a mount of an operation with so many inputs. InvalidArgumentError."""
    if not message.dest:
        raise InvalidArgumentError("invalid exec operation: a mount without a destination")
    if message.output < NO_OUTPUT:
        raise InvalidArgumentError(f"invalid exec operation: a mount with output {message.output}")
    kind = _member(MountType, message.mountType, "mount type")
    secret, ssh = message.secretOpt, message.SSHOpt
    cache = (
        CacheMount(message.cacheOpt.ID, _member(Sharing, message.cacheOpt.sharing, "sharing of a cache mount"))
        if message.HasField("cacheOpt")
        else None
    )
    if kind is MountType.CACHE and cache is None:
        raise InvalidArgumentError("invalid exec operation: a cache mount without its options")
    if kind is MountType.SECRET and not message.HasField("secretOpt"):
        raise InvalidArgumentError("invalid exec operation: a secret mount without its options")
    if kind is MountType.SSH and not message.HasField("SSHOpt"):
        raise InvalidArgumentError("invalid exec operation: an ssh mount without its options")
    return Mount(
        dest=message.dest,
        type=kind,
        input=_input(message.input, inputs, "exec"),
        selector=message.selector,
        output=message.output,
        read_only=message.readonly,
        tmpfs_bytes=message.TmpfsOpt.size,
        cache=cache,
        secret=SecretMount(secret.ID, secret.uid, secret.gid, secret.mode, secret.optional)
        if message.HasField("secretOpt")
        else None,
        ssh=SshMount(ssh.ID, ssh.uid, ssh.gid, ssh.mode, ssh.optional) if message.HasField("SSHOpt") else None,
    )


def _file(message: pb.FileOp, inputs: int) -> FileOp:
    if not message.actions:
        raise InvalidArgumentError("invalid file op with no actions")
    actions = tuple(_file_action(each, inputs + number, inputs) for number, each in enumerate(message.actions))
    outputs = sorted(action.output for action in actions if action.output != NO_OUTPUT)
    if not outputs or outputs != list(range(len(outputs))):
        raise InvalidArgumentError("invalid file operation: outputs count from 0, one for each action that has one")
    return FileOp(actions)


def _file_action(message: pb.FileAction, known: int, inputs: int) -> FileAction:
    return FileAction(
        _action(message, inputs),
        input=_input(message.input, known, "file"),
        secondary_input=_input(message.secondaryInput, known, "file"),
        output=message.output if message.output > NO_OUTPUT else NO_OUTPUT,
    )


def _action(message: pb.FileAction, inputs: int) -> Action:
    match message.WhichOneof("action"):
        case "copy":
            return _copy(message.copy, inputs)
        case "mkfile":
            file = message.mkfile
            return MakeFile(file.path, file.mode, file.data, _owner(file, inputs), file.timestamp)
        case "mkdir":
            made = message.mkdir
            return MakeDirectory(made.path, made.mode, made.makeParents, _owner(made, inputs), made.timestamp)
        case "symlink":
            link = message.symlink
            return MakeSymlink(link.oldpath, link.newpath, _owner(link, inputs), link.timestamp)
        case "rm":
            return Remove(message.rm.path, message.rm.allowNotFound, message.rm.allowWildcard)
        case None:
            raise InvalidArgumentError("invalid file operation: an action says nothing that this builder knows")


def _copy(copy: pb.FileActionCopy, inputs: int) -> Copy:
    return Copy(
        src=copy.src,
        dest=copy.dest,
        owner=_owner(copy, inputs),
        mode=copy.mode,
        mode_text=copy.modeStr,
        follow_symlink=copy.followSymlink,
        dir_copy_contents=copy.dirCopyContents,
        attempt_unpack=copy.attemptUnpackDockerCompatibility,
        create_dest_path=copy.createDestPath,
        allow_wildcard=copy.allowWildcard,
        allow_empty_wildcard=copy.allowEmptyWildcard,
        timestamp_ns=copy.timestamp,
        include_patterns=tuple(copy.include_patterns),
        exclude_patterns=tuple(copy.exclude_patterns),
        always_replace=copy.alwaysReplaceExistingDestPaths,
        required_paths=tuple(copy.required_paths),
    )


_Owned = pb.FileActionCopy | pb.FileActionMkFile | pb.FileActionMkDir | pb.FileActionSymlink


def _owner(message: _Owned, inputs: int) -> Owner | None:
    if not message.HasField("owner"):
        return None
    return Owner(
        _user(message.owner.user, inputs) if message.owner.HasField("user") else None,
        _user(message.owner.group, inputs) if message.owner.HasField("group") else None,
    )


def _user(message: pb.UserOpt, inputs: int) -> UserName | None:
    match message.WhichOneof("user"):
        case "byID":
            return UserName(number=message.byID)
        case "byName":
            return UserName(message.byName.name, _input(message.byName.input, inputs, "file"))
        case None:
            return None


def unmet(caps: Mapping[str, bool], known: frozenset[str]) -> str:
    """Return the first capability that an operation needs and this builder has not; empty: none."""
    return next((name for name, needed in sorted(caps.items()) if needed and name not in known), "")
