"""dockerd's ``daemon.json`` as configuration of this engine's services, and what of it has no equivalent.

Nothing is left out in silence: a key is translated, or needs nothing because the engine is that way anyhow, or is
named with a reason.
"""

import json
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from sampan.docker.durations import parse_duration
from sampan.docker.sizes import parse_size
from sampan.errors import InvalidArgumentError, SampanError
from sampan.services import STARTED
from sampan_cli.migration.translation import Translation
from sampan_cli.migration.untranslated import ANYHOW, WITHOUT

_MOST_BYTES: Final = 1 << 20

_LEVELS: Final = {"debug": "debug", "info": "info", "warn": "warning", "error": "error", "fatal": "error"}
_DRIVERS: Final = {"overlay2": "overlayfs", "overlayfs": "overlayfs", "vfs": "native"}


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
        if any(type(value) is type(same) and value == same for same in ANYHOW.get(key, ())):
            continue
        if (translator := _TRANSLATORS.get(key)) is not None:
            try:
                translator(result, value)
            except (TypeError, ValueError, AttributeError, KeyError, SampanError) as error:
                raise InvalidArgumentError(f"{key}: {json.dumps(value)[:200]} cannot be understood") from error
        elif key in WITHOUT:
            result.without.append(f"{key}: {WITHOUT[key]}")
        else:
            result.without.append(f"{key}: dockerd has no such key, as far as is known")
    _look_at_hosts(result)
    _look_at_ipv6(result)
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


def _exec_options(result: Translation, value: Any) -> None:
    for option in _texts(value):
        name, _, driver = option.partition("=")
        if name != "native.cgroupdriver":
            result.without.append(f"exec-opts: {option}: the engine has nothing like it")
        elif driver not in ("cgroupfs", "systemd"):
            raise ValueError(driver)
        elif driver == "systemd":
            result.set("runtimed", "cgroup_driver", driver)


def _shm_size(result: Translation, value: Any) -> None:
    parse_size(str(value))
    result.set("runtimed", "default_shm_size", str(value))


def _mirrors(result: Translation, value: Any) -> None:
    if urls := _texts(value):
        result.registry("docker.io")["mirrors"] = [{"url": url.rstrip("/")} for url in urls]


def _insecure(result: Translation, value: Any) -> None:
    networks = [host for host in _texts(value) if "/" in host]
    for host in value:
        if host not in networks:
            result.registry(host)["insecure"] = True
    if networks:
        result.set("imaged", "insecure_networks", [str(ip_network(host, strict=False)) for host in networks])
        result.notes.append(
            f"insecure-registries: {', '.join(networks)}: of registries that are named by their addresses; "
            "add those that have names to [[registries]]"
        )


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


_ROOM: Final = {
    "keepStorage": "reserved_bytes", "reservedSpace": "reserved_bytes", "maxUsedSpace": "max_used_bytes",
    "minFreeSpace": "min_free_bytes",
}  # fmt: skip


def _build_cache(result: Translation, given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if key in ("defaultKeepStorage", "defaultMaxUsedSpace"):
            result.set("buildd", "cache_max_bytes", parse_size(str(value)))
        elif key == "defaultReservedSpace":
            result.set("buildd", "cache_reserved_bytes", parse_size(str(value)))
        elif key == "defaultMinFreeSpace":
            result.set("buildd", "cache_min_free_bytes", parse_size(str(value)))
        elif key == "enabled" and type(value) is bool:
            if not value:
                result.set("buildd", "cache_gc", value)
        elif key == "policy":
            if rules := [_rule(rule) for rule in value]:
                result.set("buildd", "cache_policy", rules)
        else:
            result.without.append(f"builder: gc: {key}: the engine has nothing like it")


def _rule(given: Mapping[str, Any]) -> dict[str, Any]:
    """Translate a rule of the builder's garbage collection; see moby's ``toBuildkitPruneInfo``."""
    rule: dict[str, Any] = {}
    for key, value in given.items():
        if key in _ROOM:
            rule[_ROOM[key]] = parse_size(str(value))
        elif key == "all" and type(value) is bool:
            rule[key] = value
        elif key == "filter":
            filters = []
            for text in _texts([value] if isinstance(value, str) else value):
                name, equals, what = text.partition("=")
                if name in ("unused-for", "until"):
                    rule["unused_for_s"] = parse_duration(what) // 10**9
                else:
                    filters.append(f"{name}{'~=' if name == 'id' else '=='}{what}" if equals else name)
            if filters:
                rule["filters"] = filters
        else:
            raise KeyError(key)
    return rule


# Of dockerd's features: what the engine has in any case.
_ALWAYS_ON: Final = ("buildkit", "cdi", "containerd-snapshotter")


def _features(result: Translation, value: Any) -> None:
    for name, given in value.items():
        if not (name in _ALWAYS_ON and given):
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


def _look_at_ipv6(result: Translation) -> None:
    """dockerd passes over what is said of addresses of a family that the default bridge does not have."""
    keys = result.files.get("runtimed", {})
    for key in () if keys.get("ipv6") else ("bip6", "fixed_cidr_v6", "default_gateway_v6"):
        if keys.pop(key, None):
            result.without.append(f"{key.replace('_', '-')}: dockerd does nothing with it without ipv6")


def _shutdown_timeout(result: Translation, value: Any) -> None:
    if type(value) is not int:
        raise TypeError
    result.set("runtimed", "shutdown_timeout_s", float(value))


def _proxies(result: Translation, value: Any) -> None:
    for key, text in value.items():
        name = {"http-proxy": "http_proxy", "https-proxy": "https_proxy", "no-proxy": "no_proxy"}[key]
        if not isinstance(text, str):
            raise TypeError
        for service in ("imaged", "buildd") if text else ():
            result.set(service, name, text)


def _log_format(result: Translation, value: Any) -> None:
    for service in STARTED:
        result.set(service, "log_format", {"": "json", "text": "text", "json": "json"}[value])


def _host_gateway(result: Translation, value: Any) -> None:
    result.set("runtimed", "host_gateway_ips", _texts([value]))


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
    "exec-opts": _exec_options,
    "no-new-privileges": _one("runtimed", "no_new_privileges", bool),
    "ip": _one("runtimed", "host_ip", str),
    "default-address-pools": _pools,
    "default-ipc-mode": _one("runtimed", "default_ipc_mode", str),
    "default-cgroupns-mode": _one("runtimed", "default_cgroupns_mode", str),
    "cgroup-parent": _one("runtimed", "cgroup_parent", str),
    "seccomp-profile": _one("runtimed", "seccomp_profile", str),
    "live-restore": _one("runtimed", "live_restore", bool),
    "shutdown-timeout": _shutdown_timeout,
    "host-gateway-ip": _host_gateway,
    "host-gateway-ips": _many("runtimed", "host_gateway_ips"),
    "default-gateway": _one("runtimed", "default_gateway", str),
    "ipv6": _one("runtimed", "ipv6", bool),
    "bip6": _one("runtimed", "bip6", str),
    "fixed-cidr-v6": _one("runtimed", "fixed_cidr_v6", str),
    "default-gateway-v6": _one("runtimed", "default_gateway_v6", str),
    "ip-masq": _one("runtimed", "ip_masq", bool),
    "proxies": _proxies,
    "log-format": _log_format,
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
