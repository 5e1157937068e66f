"""An image's config as a value: OCI image spec 1.1, "Image Configuration", with Docker's additions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sampan.oci.digest import Digest
from sampan.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """How to find out whether a container of the image is well; zeroes mean the default."""

    test: tuple[str, ...]
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What a container of the image runs as, if nobody says otherwise."""

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    exposed_ports: tuple[str, ...] = ()  # "80/tcp"
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    health_check: HealthCheck | None = None
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    args_escaped: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """One step of how the image was made."""

    created_ns: int | None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """An image's config (OCI image spec 1.1, "Image Configuration"), checked."""

    platform: Platform
    diff_ids: tuple[Digest, ...]  # base first
    created_ns: int | None
    run: RunConfig
    history: tuple[History, ...] = ()  # oldest first
    os_version: str = ""
    author: str = ""
    comment: str = ""
    docker_version: str = ""
