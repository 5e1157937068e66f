"""dockerd's ``daemon.json`` as configuration of this engine's services, and what of it has no equivalent.

Nothing is left out in silence: a key is translated, or needs nothing because the engine is that way anyhow, or is
named with a reason.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from sampan.docker.sizes import parse_size
from sampan.errors import InvalidArgumentError, SampanError
from sampan.services import STARTED

_MOST_BYTES: Final = 1 << 20

# The engine's default, or how it is in any case: these say nothing new.
_ANYHOW: Final[Mapping[str, tuple[object, ...]]] = {
    "live-restore": (True,), "icc": (True,), "ip-forward": (True,), "ip-masq": (True,), "iptables": (True,),
    "ip6tables": (True,), "ipv6": (False,), "userland-proxy": (True,), "experimental": (False,), "init": (False,),
    "selinux-enabled": (False,), "raw-logs": (False,), "default-cgroupns-mode": ("private",), "bridge": ("", "docker0"),
    "mtu": (0, 1500), "exec-opts": ([], ["native.cgroupdriver=cgroupfs"]), "storage-opts": ([],), "labels": ([],),
    "seccomp-profile": ("", "builtin"), "userns-remap": ("",), "cgroup-parent": ("",), "oom-score-adjust": (0,),
    "debug": (False,), "tls": (False,), "tlsverify": (False,), "swarm-default-advertise-addr": ("",),
    "node-generic-resources": ([],), "allow-nondistributable-artifacts": ([],), "api-cors-header": ("",),
}  # fmt: skip

# Why there is nothing to translate them into.
_WITHOUT: Final[Mapping[str, str]] = {
    "data-root": "the engine keeps its own format elsewhere: sampan --data-root; images come along by docker save",
    "exec-root": "sampan --run-root",
    "pidfile": "the run root says who runs there",
    "containerd": "there is no containerd", "containerd-namespace": "there is no containerd",
    "containerd-plugin-namespace": "there is no containerd",
    "live-restore": "containers always go on when the engine stops",
    "shutdown-timeout": "containers are not stopped with the engine",
    "iptables": "the engine keeps an nftables table of its own", "ip6tables": "the engine keeps its own nftables table",
    "userland-proxy-path": "the engine has no such program",
    "experimental": "there is nothing of the kind",
    "proxies": "set HTTP_PROXY and its like in the environment of the engine",
    "network-control-plane-mtu": "there is no swarm", "swarm-default-advertise-addr": "there is no swarm",
    "node-generic-resources": "there is no swarm",
}  # fmt: skip

# Other keys of dockerd's that have no equivalent, and no way around it.
_KNOWN: Final = frozenset(
    (
        "bip6", "bridge", "default-gateway", "default-gateway-v6", "fixed-cidr-v6", "ipv6",
        "ip-forward", "ip-masq", "host-gateway-ip", "host-gateway-ips",
        "seccomp-profile", "selinux-enabled", "exec-opts", "cgroup-parent", "default-cgroupns-mode", "oom-score-adjust",
        "storage-opts", "raw-logs", "userland-proxy", "api-cors-header", "allow-nondistributable-artifacts",
        "min-api-version", "log-format",
    )
)  # fmt: skip

_LEVELS: Final = {"debug": "debug", "info": "info", "warn": "warning", "error": "error", "fatal": "error"}
_DRIVERS: Final = {"overlay2": "overlayfs", "overlayfs": "overlayfs", "vfs": "native"}


@dataclass(slots=True)
class Translation:
    """What a ``daemon.json`` comes to."""

    files: dict[str, dict[str, Any]] = field(default_factory=dict)  # by service: keys and values
    without: list[str] = field(default_factory=list)  # what has no equivalent, each with its reason
    notes: list[str] = field(default_factory=list)  # what should be looked at

    def set(self, service: str, key: str, value: object) -> None:
        """Add a key of a service's file."""
        self.files.setdefault(service, {})[key] = value

    def registry(self, host: str) -> dict[str, Any]:
        """Return the table of a registry."""
        tables: list[dict[str, Any]] = self.files.setdefault("imaged", {}).setdefault("registries", [])
        for table in tables:
            if table["host"] == host:
                return table
        tables.append({"host": host})
        return tables[-1]

    def texts(self) -> dict[str, str]:
        """Return each service's file."""
        return {service: _toml(keys) for service, keys in sorted(self.files.items())}


def read(path: Path) -> Mapping[str, Any]:
    """Read a ``daemon.json``. InvalidArgumentError if it cannot be read, or dockerd would not."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be read: {error.strerror}") from error
    if len(text) > _MOST_BYTES:
        raise InvalidArgumentError(f"{path} is larger than {_MOST_BYTES} bytes")
    try:
        document = json.loads(text or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidArgumentError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidArgumentError(f"{path} is no JSON object")
    return document


def translate(document: Mapping[str, Any]) -> Translation:
    """Translate it. InvalidArgumentError, naming the key, for a value of the wrong type."""
    result = Translation()
    for key, value in document.items():
        if any(type(value) is type(same) and value == same for same in _ANYHOW.get(key, ())):
            continue
        if (translator := _TRANSLATORS.get(key)) is not None:
            try:
                translator(result, value)
            except (TypeError, ValueError, AttributeError, KeyError, SampanError) as error:
                raise InvalidArgumentError(f"{key}: {json.dumps(value)[:200]} cannot be understood") from error
        elif key in _WITHOUT:
            result.without.append(f"{key}: {_WITHOUT[key]}")
        elif key in _KNOWN:
            result.without.append(f"{key}: the engine has nothing like it")
        else:
            result.without.append(f"{key}: dockerd has no such key, as far as is known")
    _look_at_hosts(result)
    return result


def _one(service: str, key: str, kind: type) -> Callable[[Translation, Any], None]:
    def translator(result: Translation, value: Any) -> None:
        if type(value) is not kind:
            raise TypeError
        result.set(service, key, value)

    return translator


def _many(service: str, key: str) -> Callable[[Translation, Any], None]:
    def translator(result: Translation, value: Any) -> None:
        result.set(service, key, _texts(value))

    return translator


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError
    return value


def _pairs(service: str, key: str) -> Callable[[Translation, Any], None]:
    def translator(result: Translation, value: Any) -> None:
        if not all(isinstance(each, str) for each in value.values()):
            raise TypeError
        result.set(service, key, [f"{name}={each}" for name, each in value.items()])

    return translator


def _level(result: Translation, value: Any) -> None:
    for service in STARTED:
        result.set(service, "log_level", _LEVELS[value])


def _ulimits(result: Translation, value: Any) -> None:
    rows = [(row.get("Name") or name, int(row["Soft"]), int(row["Hard"])) for name, row in value.items()]
    result.set("runtimed", "default_ulimits", [f"{name}={soft}:{hard}" for name, soft, hard in rows])


def _pools(result: Translation, value: Any) -> None:
    result.set("runtimed", "default_address_pools", [f"{row['base']}:{int(row['size'])}" for row in value])


def _network_options(result: Translation, value: Any) -> None:
    said = [(driver, option, text) for driver, options in value.items() for option, text in options.items()]
    if not all(isinstance(text, str) for _, _, text in said):
        raise TypeError
    result.set("runtimed", "default_network_opts", ["=".join(each) for each in said])


def _runtimes(result: Translation, value: Any) -> None:
    paths = []
    for name, row in value.items():
        more = sorted(key for key, given in row.items() if given and key != "path")
        if not row.get("path") or more:
            result.without.append(f"runtimes: {name}: {', '.join(more) or 'no path'}: only a path can be given")
        else:
            paths.append(f"{name}={row['path']}")
    if paths:
        result.set("runtimed", "runtimes", paths)


def _shm_size(result: Translation, value: Any) -> None:
    parse_size(str(value))
    result.set("runtimed", "default_shm_size", str(value))


def _mirrors(result: Translation, value: Any) -> None:
    if urls := _texts(value):
        result.registry("docker.io")["mirrors"] = [{"url": url.rstrip("/")} for url in urls]


def _insecure(result: Translation, value: Any) -> None:
    for host in _texts(value):
        if "/" in host:
            ip_network(host)
            result.without.append(f"insecure-registries: {host}: name each registry, ranges are not understood")
        else:
            result.registry(host)["insecure"] = True


def _storage(result: Translation, value: Any) -> None:
    if value in _DRIVERS:
        result.set("snapshotter", "driver", _DRIVERS[value])
    elif value:
        result.without.append(f"storage-driver: {value}: there are erofs, overlayfs and native")


def _builder(result: Translation, value: Any) -> None:
    for key, given in value.items():
        if key == "gc":
            _build_cache(result, given)
        elif key == "entitlements":
            for name, setting in given.items():
                if type(setting) is not bool:
                    raise TypeError
                result.set(
                    "buildd",
                    {"network-host": "allow_network_host", "security-insecure": "allow_security_insecure"}[name],
                    setting,
                )
        else:
            result.without.append(f"builder: {key}: the engine has nothing like it")


def _build_cache(result: Translation, given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if key in ("defaultKeepStorage", "defaultMaxUsedSpace"):
            result.set("buildd", "cache_max_bytes", parse_size(str(value)))
        elif key == "defaultReservedSpace":
            result.set("buildd", "cache_reserved_bytes", parse_size(str(value)))
        elif key == "defaultMinFreeSpace":
            result.set("buildd", "cache_min_free_bytes", parse_size(str(value)))
        elif not (key == "enabled" and value is True):
            result.without.append(f"builder: gc: {key}: the engine has nothing like it")


def _features(result: Translation, value: Any) -> None:
    for name, given in value.items():
        if not (name in ("buildkit", "containerd-snapshotter") and given):
            result.without.append(f"features: {name}: the engine has nothing like it")


def _hosts(result: Translation, value: Any) -> None:
    listen = ["unix:///var/run/docker.sock" if host == "unix://" else host for host in _texts(value)]
    result.set("dockerapi", "listen", [host if "://" in host else f"tcp://{host}" for host in listen])


def _look_at_hosts(result: Translation) -> None:
    """Say what a port that was open to everybody is now."""
    keys = result.files.get("dockerapi", {})
    if keys.get("tls_cert") and not keys.get("tls_ca"):
        keys["tls_verify"] = False
    verified = keys.get("tls_cert") and keys.get("tls_verify", True)
    for host in keys.get("listen", ()):
        if (
            host.startswith("tcp://")
            and not verified
            and not host.startswith(("tcp://127.", "tcp://localhost", "tcp://[::1]"))
        ):
            result.notes.append(
                f"{host} lets everybody in who can reach it: the engine does not start with it unless "
                "allow_unauthenticated_tcp = true is added, or certificates (sampan system certs)"
            )


def _userns_remap(result: Translation, value: Any) -> None:
    """dockerd makes the user and the ranges of ``default``; here they are looked up as any other's."""
    if type(value) is not str:
        raise TypeError
    result.set("runtimed", "userns_remap", value)
    user = "dockremap" if value == "default" else value.partition(":")[0]
    result.notes.append(f"userns-remap: the engine starts if /etc/subuid and /etc/subgid have ranges of {user}'s")


def _nothing(_result: Translation, value: Any) -> None:
    """``tls`` and ``tlsverify``: TLS is spoken with tls_cert, and clients are asked for theirs with tls_ca."""
    if type(value) is not bool:
        raise TypeError


_TRANSLATORS: Final[Mapping[str, Callable[[Translation, Any], None]]] = {
    "log-driver": _one("runtimed", "log_driver", str),
    "log-opts": _pairs("runtimed", "log_opts"),
    "dns": _many("runtimed", "dns"),
    "dns-search": _many("runtimed", "dns_search"),
    "dns-opts": _many("runtimed", "dns_opts"),
    "default-ulimits": _ulimits,
    "default-shm-size": _shm_size,
    "no-new-privileges": _one("runtimed", "no_new_privileges", bool),
    "ip": _one("runtimed", "host_ip", str),
    "default-address-pools": _pools,
    "bip": _one("runtimed", "bip", str),
    "fixed-cidr": _one("runtimed", "fixed_cidr", str),
    "mtu": _one("runtimed", "mtu", int),
    "icc": _one("runtimed", "icc", bool),
    "default-network-opts": _network_options,
    "userns-remap": _userns_remap,
    "labels": _many("runtimed", "labels"),
    "init": _one("runtimed", "init", bool),
    "default-runtime": _one("runtimed", "runtime", str),
    "runtimes": _runtimes,
    "init-path": _one("runtimed", "init_path", str),
    "cdi-spec-dirs": _many("runtimed", "cdi_spec_dirs"),
    "registry-mirrors": _mirrors,
    "insecure-registries": _insecure,
    "max-concurrent-downloads": _one("imaged", "parallel_downloads", int),
    "max-concurrent-uploads": _one("imaged", "parallel_uploads", int),
    "max-download-attempts": _one("imaged", "download_attempts", int),
    "hosts": _hosts,
    "group": _one("dockerapi", "socket_group", str),
    "tls": _nothing,
    "tlsverify": _nothing,
    "tlscacert": _one("dockerapi", "tls_ca", str),
    "tlscert": _one("dockerapi", "tls_cert", str),
    "tlskey": _one("dockerapi", "tls_key", str),
    "authorization-plugins": _many("dockerapi", "authorization_plugins"),
    "metrics-addr": _one("dockerapi", "metrics", str),
    "storage-driver": _storage,
    "builder": _builder,
    "features": _features,
    "log-level": _level,
    "debug": lambda result, value: _level(result, {True: "debug"}[value]),
}


def _toml(keys: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in keys.items() if not _is_tables(value)}
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    for key, value in keys.items():
        if _is_tables(value):
            lines += _tables(key, value)
    return "\n".join(lines) + "\n"


def _tables(path: str, tables: list[dict[str, Any]]) -> list[str]:
    lines = []
    for table in tables:
        lines += ["", f"[[{path}]]"]
        lines += [
            f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items() if not _is_tables(value)
        ]
        for key, value in table.items():
            if _is_tables(value):
                lines += _tables(f"{path}.{key}", value)
    return lines


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
