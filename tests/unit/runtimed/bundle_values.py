"""Values that tests of bundles start from."""

from datetime import UTC, datetime

from runtimed.host.facts import CgroupLayout, HostFacts
from runtimed.oci.security.capabilities import KNOWN
from sampan.resource.container import Container, MountPoint
from sampan.resource.container_spec import ContainerSpec, Process

HOST = HostFacts(
    cpus=2,
    memory_bytes=8 << 30,
    hostname="thehost",
    kernel="6.1.0",
    layout=CgroupLayout.HYBRID,
    cpuset_cpus="0-1",
    cpuset_mems="0",
    capabilities=tuple(name for name in KNOWN if name != "CAP_SYS_RESOURCE"),
    hard_limits={"nofile": 20000},
)

RUN = Process(cmd=("true",))


def container(spec: ContainerSpec | None = None, *mounts: MountPoint) -> Container:
    return Container("c" * 64, spec or ContainerSpec(process=RUN), datetime.now(UTC), mounts=mounts)
