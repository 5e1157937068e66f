"""What this builder tells of itself: who it is, and what clients may ask for.

Capabilities are BuildKit's: clients use what is told here, and refuse the rest themselves.

Reference: moby/buildkit, solver/pb/caps.go and frontend/gateway/pb/caps.go.
"""

import socket
from collections.abc import Callable, Sequence
from typing import Final

from buildd.build.protocol import Worker
from sampan.oci.platform import Platform
from sampan.version import VERSION

# Of graphs: operations, their options, and what exporters and caches can do.
LLB: Final = frozenset(
    (
        "source.image",
        "source.image.resolvemode",
        "source.local",
        "source.local.unique",
        "source.local.sessionid",
        "source.local.includepatterns",
        "source.local.followpaths",
        "source.local.excludepatterns",
        "source.local.sharedkeyhint",
        "source.local.differ",
        "source.git",
        "source.git.keepgitdir",
        "source.git.fullurl",
        "source.git.httpauth",
        "source.git.knownsshhosts",
        "source.git.mountsshsock",
        "source.git.subdir",
        "source.git.checksum",
        "source.git.skipsubmodules",
        "source.http",
        "source.http.checksum",
        "source.http.perm",
        "soruce.http.uidgid",
        "source.ocilayout",
        "source.policy",
        "source.policy.session",
        "exec.meta.base",
        "exec.meta.cgroup.parent",
        "exec.meta.linux.resources",
        "exec.meta.network",
        "exec.meta.proxyenv",
        "exec.meta.security",
        "exec.meta.setsdefaultpath",
        "exec.meta.ulimit",
        "exec.meta.removemountstubs.recursive",
        "exec.mount.bind",
        "exec.mount.bind.readwrite-nooutput",
        "exec.mount.cache",
        "exec.mount.cache.sharing",
        "exec.mount.selector",
        "exec.mount.tmpfs",
        "exec.mount.tmpfs.size",
        "exec.mount.secret",
        "exec.mount.ssh",
        "exec.mount.cache.content",
        "exec.cgroup",
        "exec.secretenv",
        "exec.validexitcode",
        "file.base",
        "file.rm.wildcard",
        "file.rm.nofollowsymlink",
        "file.copy.includeexcludepatterns",
        "file.copy.alwaysreplaceexistingdestpaths",
        "file.copy.modestring",
        "file.symlink.create",
        "constraints",  # every graph that Go's library makes says so; one that has some is refused
        "platform",
        "meta.ignorecache",
        "meta.description",
        "mergeop",
        "diffop",
        "exporter.image.annotations",
        "exporter.image.attestations",
        "exporter.sourcedateepoch",
        "exporter.multiple",
        "gc.freespacefilter",
    )
)

# Of the gateway.
GATEWAY: Final = frozenset(
    (
        "solve.base",
        "resolveimage",
        "resolveimage.resolvemode",
        "source.metaresolver",
        "source.metaresolver.image.attestations",
        "source.metaresolver.http.checksumrequest",
        "readfile",
        "readdir",
        "statfile",
        "importcaches",
        "return",
        "returnmap",
        "proto.refarray",
        "reference.output",
        "frontend.inputs",
        "gateway.solve.metadata",
        "gateway.solve.evaluate",
        "gateway.evaluate",
        "gateway.warnings",
        "gateway.exec",
        "gateway.exec.extrahosts",
        "gateway.exec.filesystem",
        "gateway.exec.secretenv",
        "gateway.exec.signals",
        "frontend.caps",
    )
)

_PREFIX: Final = "org.mobyproject.buildkit.worker."


def describe(
    id: str, storage_driver: str, host_gateway: str, platforms: Callable[[], Sequence[Platform]]
) -> Callable[[], Worker]:
    """Return what tells of this builder; ``platforms`` are asked for each time, as emulators come and go.

    The label of the snapshotter is what tells clients that images of every kind come of it; that of the gateway is the
    address that they put in for ``host-gateway``.
    """
    labels = {
        f"{_PREFIX}executor": "oci",
        f"{_PREFIX}hostname": socket.gethostname(),
        f"{_PREFIX}network": "bridge",
        f"{_PREFIX}selinux.enabled": "false",
        f"{_PREFIX}snapshotter": storage_driver,
    }
    if host_gateway:
        labels[f"{_PREFIX}moby.host-gateway-ip"] = host_gateway
    return lambda: Worker(id, labels, tuple(platforms()), f"v{VERSION}")
