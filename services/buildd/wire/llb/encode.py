"""Operations to ``pb.Op``. Equal operations make equal bytes: a vertex's digest is the digest of them."""

from collections.abc import Callable
from typing import Final

from buildd.llb.ops import (
    NO_LIMITS,
    Copy,
    DiffOp,
    ExecOp,
    FileAction,
    FileOp,
    MakeDirectory,
    MakeFile,
    MakeSymlink,
    MergeOp,
    Metadata,
    Mount,
    Node,
    Owner,
    Process,
    Remove,
    SourceOp,
    UserName,
)
from sampan.api.buildkit.solver.v1 import ops_pb2 as pb
from sampan.build.progress import Position, ProgressGroup
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource.container_spec import Resources

# The member of a description that says what progress shows.
CUSTOM_NAME: Final = "llb.customname"


def op_to_proto(node: Node, digest_of: Callable[[Node], Digest]) -> pb.Op:
    """Return the operation of a node whose inputs have digests."""
    message = pb.Op(
        inputs=[pb.Input(digest=digest_of(each.node), index=each.index) for each in node.inputs],
        platform=platform_to_proto(node.platform) if node.platform else None,
    )
    match node.op:
        case ExecOp() as op:
            message.exec.CopyFrom(_exec(op))
        case SourceOp(identifier, attrs):
            message.source.CopyFrom(pb.SourceOp(identifier=identifier, attrs=attrs))
        case FileOp(actions):
            message.file.CopyFrom(pb.FileOp(actions=map(_action, actions)))
        case MergeOp(inputs):
            message.merge.CopyFrom(pb.MergeOp(inputs=[pb.MergeInput(input=each) for each in inputs]))
        case DiffOp(lower, upper):
            lower_input, upper_input = pb.LowerDiffInput(input=lower), pb.UpperDiffInput(input=upper)
            message.diff.CopyFrom(pb.DiffOp(lower=lower_input, upper=upper_input))
    return message


def platform_to_proto(platform: Platform) -> pb.Platform:
    """Return a platform."""
    return pb.Platform(OS=platform.os, Architecture=platform.architecture, Variant=platform.variant)


def metadata_to_proto(metadata: Metadata, shown: str = "") -> pb.OpMetadata:
    """Return what is said about a step; its lines are in the definition's ``Source``.

    ``shown`` is what its name is if nobody gives it one.
    """
    name = {CUSTOM_NAME: metadata.name} if metadata.name and metadata.name != shown else {}
    return pb.OpMetadata(
        ignore_cache=metadata.ignore_cache,
        description={**metadata.description, **name},
        progress_group=group_to_proto(metadata.progress_group) if metadata.progress_group else None,
        linux_resources=_limits(metadata.limits) if metadata.limits != NO_LIMITS else None,
    )


def _limits(limits: Resources) -> pb.LinuxResources:
    return pb.LinuxResources(
        memory=limits.memory_bytes,
        memorySwap=limits.memory_swap_bytes,
        cpuShares=limits.cpu_shares,
        cpuPeriod=limits.cpu_period_us,
        cpuQuota=limits.cpu_quota_us,
        cpusetCpus=limits.cpuset_cpus,
        cpusetMems=limits.cpuset_mems,
    )


def group_to_proto(group: ProgressGroup) -> pb.ProgressGroup:
    """Return a group of steps."""
    return pb.ProgressGroup(id=group.id, name=group.name, weak=group.weak)


def range_to_proto(position: Position) -> pb.Range:
    """Return lines of a file."""
    return pb.Range(start=pb.Position(line=position.first_line), end=pb.Position(line=position.last_line))


def _exec(op: ExecOp) -> pb.ExecOp:
    return pb.ExecOp(
        meta=_process(op.process),
        mounts=map(_mount, op.mounts),
        network=pb.NetMode.ValueType(op.network.value),
        security=pb.SecurityMode.ValueType(op.security.value),
        secretenv=[pb.SecretEnv(ID=each.id, name=each.name, optional=each.optional) for each in op.secret_env],
        cdiDevices=[pb.CDIDevice(name=each.name, optional=each.optional) for each in op.devices],
    )


def _process(process: Process) -> pb.Meta:
    proxy = process.proxy_env
    return pb.Meta(
        args=process.args,
        env=process.env,
        cwd=process.cwd,
        user=process.user,
        proxy_env=pb.ProxyEnv(
            http_proxy=proxy.http_proxy,
            https_proxy=proxy.https_proxy,
            ftp_proxy=proxy.ftp_proxy,
            no_proxy=proxy.no_proxy,
            all_proxy=proxy.all_proxy,
        )
        if proxy
        else None,
        extraHosts=[pb.HostIP(Host=each.host, IP=each.ip) for each in process.extra_hosts],
        hostname=process.hostname,
        ulimit=[pb.Ulimit(Name=each.name, Soft=each.soft, Hard=each.hard) for each in process.ulimits],
        cgroupParent=process.cgroup_parent,
        validExitCodes=process.valid_exit_codes,
    )


def _mount(mount: Mount) -> pb.Mount:
    cache, secret, ssh = mount.cache, mount.secret, mount.ssh
    return pb.Mount(
        input=mount.input,
        selector=mount.selector,
        dest=mount.dest,
        output=mount.output,
        readonly=mount.read_only,
        mountType=pb.MountType.ValueType(mount.type.value),
        TmpfsOpt=pb.TmpfsOpt(size=mount.tmpfs_bytes) if mount.tmpfs_bytes else None,
        cacheOpt=pb.CacheOpt(ID=cache.id, sharing=pb.CacheSharingOpt.ValueType(cache.sharing.value)) if cache else None,
        secretOpt=pb.SecretOpt(ID=secret.id, uid=secret.uid, gid=secret.gid, mode=secret.mode, optional=secret.optional)
        if secret
        else None,
        SSHOpt=pb.SSHOpt(ID=ssh.id, uid=ssh.uid, gid=ssh.gid, mode=ssh.mode, optional=ssh.optional) if ssh else None,
    )


def _action(each: FileAction) -> pb.FileAction:
    message = pb.FileAction(input=each.input, secondaryInput=each.secondary_input, output=each.output)
    match each.action:
        case Copy() as action:
            message.copy.CopyFrom(_copy(action))
        case MakeFile() as action:
            message.mkfile.CopyFrom(
                pb.FileActionMkFile(
                    path=action.path,
                    mode=action.mode,
                    data=action.data,
                    owner=_owner(action.owner),
                    timestamp=action.timestamp_ns,
                )
            )
        case MakeDirectory() as action:
            message.mkdir.CopyFrom(
                pb.FileActionMkDir(
                    path=action.path,
                    mode=action.mode,
                    makeParents=action.make_parents,
                    owner=_owner(action.owner),
                    timestamp=action.timestamp_ns,
                )
            )
        case MakeSymlink() as action:
            message.symlink.CopyFrom(
                pb.FileActionSymlink(
                    oldpath=action.target,
                    newpath=action.path,
                    owner=_owner(action.owner),
                    timestamp=action.timestamp_ns,
                )
            )
        case Remove() as action:
            message.rm.CopyFrom(
                pb.FileActionRm(
                    path=action.path, allowNotFound=action.allow_not_found, allowWildcard=action.allow_wildcard
                )
            )
    return message


def _copy(action: Copy) -> pb.FileActionCopy:
    return pb.FileActionCopy(
        src=action.src,
        dest=action.dest,
        owner=_owner(action.owner),
        mode=action.mode,
        modeStr=action.mode_text,
        followSymlink=action.follow_symlink,
        dirCopyContents=action.dir_copy_contents,
        attemptUnpackDockerCompatibility=action.attempt_unpack,
        createDestPath=action.create_dest_path,
        allowWildcard=action.allow_wildcard,
        allowEmptyWildcard=action.allow_empty_wildcard,
        timestamp=action.timestamp_ns,
        include_patterns=action.include_patterns,
        exclude_patterns=action.exclude_patterns,
        alwaysReplaceExistingDestPaths=action.always_replace,
        required_paths=action.required_paths,
    )


def _owner(owner: Owner | None) -> pb.ChownOpt | None:
    return pb.ChownOpt(user=_user(owner.user), group=_user(owner.group)) if owner else None


def _user(user: UserName | None) -> pb.UserOpt | None:
    if user is None:
        return None
    if user.number is not None:
        return pb.UserOpt(byID=user.number)
    return pb.UserOpt(byName=pb.NamedUserOpt(name=user.name, input=user.input))
