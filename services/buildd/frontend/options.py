"""What a client asks of a Dockerfile build: the attributes that buildx, compose and the docker command send.

Reference: moby/buildkit, docs/reference of ``dockerfile.v0`` frontend attributes. An attribute that is not known here
is refused by name, so that nothing is ignored in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from buildd.llb.ops import NO_LIMITS, Device, HostAddress, NetMode, Ulimit
from sampan.build import plan
from sampan.build.request import NETWORK_MODE
from sampan.docker.options.limits import check_limits
from sampan.docker.options.namespaces import namespace_path
from sampan.dockerfile.mounts import parse_device
from sampan.errors import InvalidArgumentError
from sampan.oci.platform import Platform, host_platform, parse_platform
from sampan.resource.container_spec import Resources

DEFAULT_FILE_NAME: Final = "Dockerfile"

PROXY_NAMES: Final = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
_NETWORKS: Final = {
    "": NetMode.SANDBOX,
    "default": NetMode.SANDBOX,
    "sandbox": NetMode.SANDBOX,
    "none": NetMode.NONE,
    "host": NetMode.HOST,
}
_RESOLVE_MODES: Final = frozenset(("default", "pull", "local"))

# Attributes that carry a name after the colon.
_PREFIXES: Final = (
    "build-arg:", "label:", "context:", "input-metadata:", "local-sessionid:", "sharedkey:", "attest:", "vcs:",
)  # fmt: skip
_KNOWN: Final = frozenset(
    (
        "filename", "target", "platform", "no-cache", "add-hosts", "force-network-mode", "shm-size", "ulimit",
        "cgroup-parent", "hostname", "image-resolve-mode", "context", "contextkey", "dockerfilekey", "contextsubdir",
        "multi-platform", "requestid", "cache-from", "cache-imports", "source", "cmdline", "frontend.caps",
        "device", plan.ATTRIBUTE, NETWORK_MODE, "memory", "memswap", "cpushares", "cpuperiod", "cpuquota", "cpusetcpus",
        "cpusetmems",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Options:
    """One build's options."""

    file_name: str = DEFAULT_FILE_NAME
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, str] = field(default_factory=dict)  # named contexts: "base" -> "docker-image://alpine"
    input_metadata: Mapping[str, str] = field(default_factory=dict)
    platforms: tuple[Platform, ...] = ()  # asked for; empty: the builder's own
    no_cache: bool = False
    no_cache_stages: frozenset[str] = frozenset()
    hosts: tuple[HostAddress, ...] = ()
    network: NetMode = NetMode.SANDBOX
    network_mode: str = ""  # a container's, instead of ``network``
    shm_bytes: int = 0
    ulimits: tuple[Ulimit, ...] = ()
    cgroup_parent: str = ""
    limits: Resources = NO_LIMITS  # of every RUN's process
    hostname: str = ""
    sessions: Mapping[str, str] = field(default_factory=dict)  # of clients that have a local directory, by its name
    shared_keys: Mapping[str, str] = field(default_factory=dict)  # of named local contexts
    cache_namespace: str = ""  # cache mounts of other namespaces are others
    keep_git_dir: bool | None = None  # of a context that is a repository
    devices: tuple[Device, ...] = ()  # of every RUN
    checks: str | None = None  # instead of the Dockerfile's check directive
    resolve_mode: str = "default"
    context: str = ""  # a URL instead of the client's directory
    context_key: str = "context"  # name of the client's directory
    dockerfile_key: str = ""  # the Dockerfile is in a directory of its own, also if the context is a URL
    context_directory: str = ""  # in the context that a URL gives
    multi_platform: bool = False  # the result is an index, also of one platform
    request: str = ""  # a subrequest, such as "frontend.outline"
    syntax: str = ""  # instead of the Dockerfile's syntax directive
    tells_plan: bool = False  # all instructions are told before the first step; see ``sampan.build.plan``
    command_line: str | None = None  # the syntax directive has led here: it is not looked at again

    @property
    def build_platform(self) -> Platform:
        """The builder's own platform."""
        return normalized(host_platform())

    def ignores_cache(self, stage: str) -> bool:
        """Say whether the steps of a stage are run although their results are known."""
        return self.no_cache or (bool(stage) and stage.lower() in self.no_cache_stages)

    @property
    def proxies(self) -> Mapping[str, str]:
        """Proxy variables among the build's arguments, in lower case; they enter no cache key."""
        lower = {name.lower(): value for name, value in self.build_args.items() if name.lower() in PROXY_NAMES}
        return {name: lower[name] for name in PROXY_NAMES if name in lower}


def known(attributes: Mapping[str, str]) -> Mapping[str, str]:
    """Return those attributes that this frontend knows."""
    own = {*_KNOWN, attributes.get("contextkey") or "context"}
    return {name: value for name, value in attributes.items() if name in own or name.startswith(_PREFIXES)}


def parse_options(attributes: Mapping[str, str]) -> Options:
    """Parse a client's attributes.

    Raises:
        InvalidArgumentError: an unknown attribute, or a value that cannot be; named.
    """
    context_key = attributes.get("contextkey") or "context"
    for name in attributes.keys() - known(attributes).keys():
        raise InvalidArgumentError(f"unsupported frontend attribute {name!r}")
    build_args = _named(attributes, "build-arg:")
    no_cache = attributes.get("no-cache")
    return Options(
        file_name=attributes.get("filename") or DEFAULT_FILE_NAME,
        target=attributes.get("target", ""),
        build_args=build_args,
        labels=_named(attributes, "label:"),
        contexts=_named(attributes, "context:"),
        input_metadata=_named(attributes, "input-metadata:"),
        platforms=_platforms(attributes.get("platform", "")),
        syntax=build_args.get("BUILDKIT_SYNTAX", ""),
        no_cache=no_cache == "",
        no_cache_stages=frozenset(part.strip().lower() for part in (no_cache or "").split(",") if part.strip()),
        hosts=_hosts(attributes.get("add-hosts", "")),
        network=_network(attributes.get("force-network-mode", "")),
        network_mode=_network_mode(attributes.get(NETWORK_MODE, "")),
        shm_bytes=_size("shm-size", attributes.get("shm-size", "0") or "0"),
        ulimits=_ulimits(attributes.get("ulimit", "")),
        cgroup_parent=attributes.get("cgroup-parent", ""),
        limits=_limits(attributes),
        hostname=build_args.get("BUILDKIT_SANDBOX_HOSTNAME") or attributes.get("hostname", ""),
        sessions=_named(attributes, "local-sessionid:"),
        shared_keys=_named(attributes, "sharedkey:localdir:"),
        cache_namespace=build_args.get("BUILDKIT_CACHE_MOUNT_NS", ""),
        keep_git_dir=_truth("BUILDKIT_CONTEXT_KEEP_GIT_DIR", build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR", ""))
        if build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR")
        else None,
        devices=tuple(_device(text) for text in attributes.get("device", "").split(",") if text),
        checks=build_args.get("BUILDKIT_DOCKERFILE_CHECK"),
        resolve_mode=_resolve_mode(attributes.get("image-resolve-mode", "") or "default"),
        context=attributes.get(context_key, ""),
        context_key=context_key,
        dockerfile_key=attributes.get("dockerfilekey", ""),
        context_directory=attributes.get("contextsubdir", ""),
        multi_platform=_multi_platform(attributes, build_args),
        request=attributes.get("requestid", ""),
        tells_plan=plan.ATTRIBUTE in attributes,
        command_line=attributes.get("cmdline"),
    )


def _named(attributes: Mapping[str, str], prefix: str) -> Mapping[str, str]:
    return {name.removeprefix(prefix): value for name, value in attributes.items() if name.startswith(prefix)}


def _platforms(text: str) -> tuple[Platform, ...]:
    asked = (parse_platform(part.strip()) for part in text.split(",") if part.strip())
    return tuple(dict.fromkeys(normalized(platform) for platform in asked))


def normalized(platform: Platform) -> Platform:
    """Return a platform as builds name it: a variant that is the only one, or the usual one, is told for arm alone."""
    match (platform.architecture, platform.variant):
        case ("arm64", "v8"):
            return replace(platform, variant="")
        case ("arm", ""):
            return replace(platform, variant="v7")
    return platform


def _multi_platform(attributes: Mapping[str, str], build_args: Mapping[str, str]) -> bool:
    several = len(_platforms(attributes.get("platform", ""))) > 1
    text = build_args.get("BUILDKIT_MULTI_PLATFORM") or attributes.get("multi-platform", "")
    if not text:
        return several
    asked = _truth("multi-platform", text)
    if several and not asked:
        raise InvalidArgumentError("conflicting config: returning multiple target platforms is not allowed")
    return asked


def _device(text: str) -> Device:
    device = parse_device(text)
    return Device(device.name, optional=not device.required)


def _hosts(text: str) -> tuple[HostAddress, ...]:
    hosts = []
    for part in filter(None, text.split(",")):
        host, equals, address = part.partition("=")
        if not (host and equals and address):
            raise InvalidArgumentError(f"invalid hostname:ip {part!r} in add-hosts")
        hosts.append(HostAddress(host, address.strip("[]")))
    return tuple(hosts)


def _network(text: str) -> NetMode:
    if text not in _NETWORKS:
        raise InvalidArgumentError(f"network mode {text!r} is not supported by the builder: use default, none or host")
    return _NETWORKS[text]


def _network_mode(text: str) -> str:
    if (text in _NETWORKS and text) or namespace_path(text):  # what needs a grant is asked for by the other attribute
        raise InvalidArgumentError(f"network mode {text!r} is no network of the engine's, and no container's")
    return text


def _size(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 63:
        raise InvalidArgumentError(f"{name} {text!r} is not a number of bytes")
    return int(text)


def _limits(attributes: Mapping[str, str]) -> Resources:
    limits = Resources(
        memory_bytes=_positive("memory", attributes),
        memory_swap_bytes=-1 if attributes.get("memswap") == "-1" else _positive("memswap", attributes),
        cpu_shares=_positive("cpushares", attributes),
        cpu_period_us=_positive("cpuperiod", attributes),
        cpu_quota_us=_positive("cpuquota", attributes),
        cpuset_cpus=attributes.get("cpusetcpus", ""),
        cpuset_mems=attributes.get("cpusetmems", ""),
    )
    check_limits(limits)
    return limits


def _positive(name: str, attributes: Mapping[str, str]) -> int:
    text = attributes.get(name, "")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 1 << 63:
        raise InvalidArgumentError(f"invalid {name} value: {text}: must be > 0")
    return int(text)


def _ulimits(text: str) -> tuple[Ulimit, ...]:
    limits = []
    for part in filter(None, text.split(",")):
        name, equals, values = part.partition("=")
        soft, colon, hard = values.partition(":")
        numbers = (soft, hard if colon else soft)
        if not (name and equals) or not all(value.lstrip("-").isdigit() and value.isascii() for value in numbers):
            raise InvalidArgumentError(f"invalid ulimit {part!r}: expected name=soft[:hard]")
        limits.append(Ulimit(name, int(numbers[0]), int(numbers[1])))
    return tuple(limits)


def _resolve_mode(text: str) -> str:
    if text not in _RESOLVE_MODES:
        raise InvalidArgumentError(f"invalid image-resolve-mode {text!r}: use default, pull or local")
    return text


def _truth(name: str, text: str) -> bool:
    if text.lower() in ("", "0", "false", "f"):
        return False
    if text.lower() in ("1", "true", "t"):
        return True
    raise InvalidArgumentError(f"invalid boolean value {text!r} for {name}")


def parse_epoch(text: str) -> int | None:
    """Return SOURCE_DATE_EPOCH in seconds; None for an empty text.

    Raises:
        InvalidArgumentError: not a whole number.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise InvalidArgumentError(f"invalid SOURCE_DATE_EPOCH: {text}")
    return int(text)
