"""What every gRPC method of the engine's services does, in the words that ``operations`` has for routes.

A method that is not here is nobody's: a socket with limits lets nobody call it, and the audit log writes it down.
"""

from collections.abc import Mapping
from typing import Final

from dockerapi.rights.operations import OPERATIONS, Operation, Reach

_L, _R, _C, _O = Reach.LOOKS, Reach.READS, Reach.CHANGES, Reach.OPENS

_ROUTES: Final = {operation.name: operation for operation in OPERATIONS.values()}


def _of(service: str, **methods: str | tuple[str, Reach]) -> dict[str, Operation]:
    """Return operations by path. What a route does as well has its name alone, and reaches as far."""
    return {
        f"/{service}/{method}": _ROUTES[said] if isinstance(said, str) else Operation(*said)
        for method, said in methods.items()
    }


METHODS: Final[Mapping[str, Operation]] = {
    **_of(
        "sampan.runtime.v1.Containers",
        Create="container.create",
        Get="container.inspect",
        List="container.list",
        Start="container.start",
        Stop="container.stop",
        Restart="container.restart",
        Kill="container.kill",
        Pause="container.pause",
        Unpause="container.unpause",
        Hold=("container.hold", _C),
        Remove="container.remove",
        Rename="container.rename",
        Update="container.update",
        Wait="container.wait",
        Attach="container.attach",
        Resize="container.resize",
        Logs="container.logs",
        ReopenLog=("container.log-reopen", _C),
        Top="container.top",
        Stats="container.stats",
        Samples=("container.samples", _L),
        Prune="container.prune",
    ),
    **_of(
        "sampan.runtime.v1.Archives",
        Stat="container.archive-get",
        Read="container.archive-get",
        Write="container.archive-put",
    ),
    **_of(
        "sampan.runtime.v1.Execs",
        Create="exec.create",
        Get="exec.inspect",
        Start="exec.start",
        Kill=("exec.kill", _C),
        Resize="exec.resize",
    ),
    **_of(
        "sampan.runtime.v1.Networks",
        Create="network.create",
        Get="network.inspect",
        List="network.list",
        Remove="network.remove",
        Connect="network.connect",
        Disconnect="network.disconnect",
        Prune="network.prune",
    ),
    **_of(
        "sampan.runtime.v1.Volumes",
        Create="volume.create",
        Get="volume.inspect",
        List="volume.list",
        Remove="volume.remove",
        Prune="volume.prune",
    ),
    **_of(
        "sampan.runtime.v1.Events",
        Subscribe="system.events",
        Kept=("system.events-kept", _L),
        Publish=("system.events-publish", _C),
    ),
    **_of("sampan.runtime.v1.Host", Info="system.info"),
    **_of("sampan.runtime.v1.Steps", Run=("build.step", _C)),
    **_of(
        "sampan.image.v1.Images",
        Fetch="image.pull",
        Create=("image.name", _C),
        Complete=("image.complete", _C),
        Forms=("image.forms", _L),
        Release=("image.release", _C),
        Keep=("image.keep", _C),
        Get="image.inspect",
        List="image.list",
        Tag="image.tag",
        Remove="image.remove",
        Prune="image.prune",
        Import=("image.import", _C),
        Commit="image.commit",
        Push="image.push",
        Save="image.save",
        Load="image.load",
        Roots=("image.roots", _L),
        Login="system.auth",
        Inspect="image.distribution",
        GetManifest=("image.manifest", _R),
        PutManifest=("image.manifest-push", _C),
        Referrers=("image.referrers", _R),
        ReadRemote=("image.remote-content", _R),
        Tags=("image.tags", _R),
        Search="image.search",
    ),
    **_of(
        "sampan.image.v1.Leases",
        Put=("lease.put", _C),
        List=("lease.list", _L),
        Remove=("lease.remove", _C),
    ),
    **_of(
        "containerd.services.content.v1.Content",
        Info=("content.inspect", _L),
        Update=("content.update", _C),
        List=("content.list", _L),
        Delete=("content.remove", _C),
        Read=("content.read", _R),
        Status=("content.status", _L),
        ListStatuses=("content.status", _L),
        Write=("content.write", _C),
        Abort=("content.abort", _C),
    ),
    **_of(
        "containerd.services.snapshots.v1.Snapshots",
        Prepare=("snapshot.prepare", _C),
        View=("snapshot.view", _C),
        Mounts=("snapshot.mounts", _L),
        Commit=("snapshot.commit", _C),
        Remove=("snapshot.remove", _C),
        Stat=("snapshot.inspect", _L),
        Update=("snapshot.update", _C),
        List=("snapshot.list", _L),
        Usage=("snapshot.usage", _L),
        Cleanup=("snapshot.cleanup", _C),
    ),
    **_of("containerd.services.diff.v1.Diff", Apply=("layer.apply", _C), Diff=("layer.diff", _C)),
    **_of(
        "sampan.snapshot.v1.Layers",
        Apply=("layer.apply", _C),
        Stack=("layer.stack", _C),
        Unpack=("layer.unpack", _C),
        Unstack=("layer.unstack", _C),
        Drivers=("layer.drivers", _L),
        Usage=("layer.usage", _L),
        Changes="container.changes",
        Diff=("layer.diff", _C),
        Freeze=("layer.freeze", _C),
        Pack=("layer.pack", _C),
        Export=("layer.export", _R),
    ),
    **_of(
        "sampan.check.v1.Check",
        Check=("system.check", _L),
        Restored=("system.restored", _L),
        Repair=("system.repair", _C),
    ),
    **_of("sampan.disk.v1.Disk", Usage="system.df", Collect=("system.collect", _C)),
    **_of(
        "moby.buildkit.v1.Control",
        DiskUsage=("build.disk-use", _L),
        Prune="build.prune",
        Solve="build.run",
        Status=("build.status", _L),
        Session="build.session",
        ListWorkers=("build.workers", _L),
        Info=("build.info", _L),
        ListenBuildHistory=("build.history", _L),
        UpdateBuildHistory=("build.history-update", _C),
    ),
    **_of(
        "moby.buildkit.v1.frontend.LLBBridge",
        **dict.fromkeys(
            (
                "ResolveImageConfig", "ResolveSourceMeta", "Solve", "ReadFile", "ReadDir", "StatFile", "Evaluate",
                "Ping", "Return", "Inputs", "NewContainer", "ReleaseContainer", "ExecProcess", "ReadFileContainer",
                "ReadDirContainer", "StatFileContainer", "Warn",
            ),
            ("build.frontend", _O),
        ),
    ),
    **_of("grpc.health.v1.Health", Check="system.ping", Watch="system.ping", List="system.ping"),
    **_of("grpc.reflection.v1alpha.ServerReflection", ServerReflectionInfo=("system.reflection", _L)),
}  # fmt: skip

NAMES: Final = tuple(dict.fromkeys((*_ROUTES, *(operation.name for operation in METHODS.values()))))
