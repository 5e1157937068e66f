"""An image's config: JSON from strangers to a checked value, and back to the bytes that its digest names.

Reference: OCI image spec 1.1, "Image Configuration"; Docker image spec 1.2 for ``Healthcheck``, ``OnBuild``, ``Shell``.

Real configs hold nulls where a list or a map should be, numbers as strings, and times with any number of digits. What
can be read is read; what would mislead whoever runs the image is an error.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sampan import limits
from sampan.errors import InvalidArgumentError, RemoteError
from sampan.oci.digest import Digest
from sampan.oci.image_config import ConfigFile, HealthCheck, History, RunConfig
from sampan.oci.json_documents import load_json
from sampan.oci.platform import Platform

# Far above anything real; below it no list can make a client or a table unusable.
MAX_ITEMS: Final = 10_000

_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9})\d*)?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
_MAX_INT64: Final = 2**63 - 1
_MAX_INT32: Final = 2**31 - 1


def parse_config(data: bytes, what: str) -> ConfigFile:
    """Parse a config; ``what`` names it in errors.

    Raises:
        RemoteError: not a config.
    """
    fields = _Fields(load_json(data, what), what)
    rootfs = fields.table("rootfs")
    if rootfs.text("type") not in ("layers", ""):
        raise RemoteError(f"{what}: rootfs is of type {rootfs.text('type')!r}, expected layers")
    platform = Platform(fields.text("os") or "linux", fields.text("architecture"), fields.text("variant"))
    if not platform.architecture:
        raise RemoteError(f"{what}: has no architecture: this is not a container image")
    return ConfigFile(
        platform=platform,
        diff_ids=tuple(_digest(text, what) for text in rootfs.texts("diff_ids")),
        created_ns=parse_time(fields.text("created")),
        run=_run_config(fields.table("config")),
        history=tuple(_history(step) for step in fields.tables("history")),
        os_version=fields.text("os.version"),
        author=fields.text("author"),
        comment=fields.text("comment"),
        docker_version=fields.text("docker_version"),
    )


def check_sizes(run: RunConfig, what: str) -> None:
    """Refuse, when it comes in, an image that would make every list long, or that no container could be made from.

    Raises:
        InvalidArgumentError: its labels, or its command and environment, take more than ``sampan.limits`` says.
    """
    limits.check_labels(run.labels, f"{what}: labels")
    limits.check_process((*run.entrypoint, *run.cmd), run.env, what)


def _run_config(fields: "_Fields") -> RunConfig:
    health = fields.table("Healthcheck")
    return RunConfig(
        user=fields.text("User"),
        env=fields.texts("Env"),
        entrypoint=fields.texts("Entrypoint"),
        cmd=fields.texts("Cmd"),
        working_dir=fields.text("WorkingDir"),
        labels=fields.labels("Labels"),
        exposed_ports=fields.keys("ExposedPorts"),
        volumes=fields.keys("Volumes"),
        stop_signal=fields.text("StopSignal"),
        health_check=_health_check(health) if health else None,
        shell=fields.texts("Shell"),
        on_build=fields.texts("OnBuild"),
        args_escaped=fields.flag("ArgsEscaped"),
    )


def _health_check(fields: "_Fields") -> HealthCheck:
    return HealthCheck(
        test=fields.texts("Test"),
        interval_ns=fields.number("Interval", _MAX_INT64),
        timeout_ns=fields.number("Timeout", _MAX_INT64),
        start_period_ns=fields.number("StartPeriod", _MAX_INT64),
        start_interval_ns=fields.number("StartInterval", _MAX_INT64),
        retries=fields.number("Retries", _MAX_INT32),
    )


def _history(fields: "_Fields") -> History:
    return History(
        created_ns=parse_time(fields.text("created")),
        created_by=fields.text("created_by"),
        author=fields.text("author"),
        comment=fields.text("comment"),
        empty_layer=fields.flag("empty_layer"),
    )


def _digest(text: str, what: str) -> Digest:
    try:
        return Digest.parse(text)
    except InvalidArgumentError as error:
        raise RemoteError(f"{what}: diff_ids: {error}") from error


def parse_time(text: str) -> int | None:
    """Return nanoseconds since the epoch, or None for a time that is missing, malformed or before year 1.

    A build's clock is no reason to refuse an image, so this never raises.
    """
    match = _TIME.fullmatch(text)
    if not match:
        return None
    *parts, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime(*map(int, parts), tzinfo=UTC)  # type: ignore[arg-type,misc]
    except ValueError:
        return None
    offset_s = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    seconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) - offset_s
    # Go's zero time, year 1, stands for "no time" wherever Go wrote the config.
    return None if moment.year == 1 else seconds * 10**9 + int((fraction or "").ljust(9, "0"))


class _Fields:
    """An object's members by type; null and absent are the same, and empty."""

    def __init__(self, value: object, what: str) -> None:
        if value is not None and not isinstance(value, dict):
            raise RemoteError(f"{what}: is a {type(value).__name__}, expected an object")
        self._values: Mapping[str, Any] = value or {}
        self._what = what

    def __bool__(self) -> bool:
        return bool(self._values)

    def _get(self, name: str, kind: type, words: str) -> Any:
        value = self._values.get(name)
        # A bool is an int to Python and to nobody else.
        if value is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool))):
            return value
        raise RemoteError(f"{self._what}: {name} is a {type(value).__name__}, expected {words}")

    def text(self, name: str) -> str:
        return _clean(self._get(name, str, "text") or "")

    def flag(self, name: str) -> bool:
        return bool(self._get(name, bool, "true or false"))

    def number(self, name: str, most: int) -> int:
        value = self._get(name, int, "a whole number") or 0
        if not -1 <= value <= most:
            raise RemoteError(f"{self._what}: {name} is {value}, expected 0 to {most}")
        return max(0, int(value))

    def table(self, name: str) -> "_Fields":
        return _Fields(self._values.get(name), f"{self._what}: {name}")

    def tables(self, name: str) -> tuple["_Fields", ...]:
        items = self._list(name)
        return tuple(_Fields(item, f"{self._what}: {name}[{i}]") for i, item in enumerate(items))

    def texts(self, name: str) -> tuple[str, ...]:
        items = self._values.get(name)
        # Old builders wrote a lone command as text.
        items = [items] if isinstance(items, str) else self._list(name)
        if not all(isinstance(item, str) for item in items):
            raise RemoteError(f"{self._what}: {name} holds something else than text")
        return tuple(_clean(item) for item in items)

    def labels(self, name: str) -> Mapping[str, str]:
        values = self._map(name)
        if not all(isinstance(value, str) or value is None for value in values.values()):
            raise RemoteError(f"{self._what}: {name} holds something else than text")
        return {_clean(key): _clean(value or "") for key, value in values.items()}

    def keys(self, name: str) -> tuple[str, ...]:
        return tuple(_clean(key) for key in self._map(name))

    def _map(self, name: str) -> Mapping[str, Any]:
        values = self._get(name, dict, "an object") or {}
        if len(values) > MAX_ITEMS:
            raise RemoteError(f"{self._what}: {name} has {len(values)} members, the most is {MAX_ITEMS}")
        return dict(values)

    def _list(self, name: str) -> list[Any]:
        items = self._get(name, list, "a list") or []
        if len(items) > MAX_ITEMS:
            raise RemoteError(f"{self._what}: {name} has {len(items)} items, the most is {MAX_ITEMS}")
        return list(items)


def _clean(text: str) -> str:
    """Return text that can travel: JSON may hold lone surrogates, which are not UTF-8."""
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text


def render_config(config: ConfigFile) -> bytes:
    """Return the JSON of a config; what is empty is left out."""
    platform = config.platform
    document = {
        "created": _time(config.created_ns),
        "author": config.author,
        "architecture": platform.architecture,
        "os": platform.os,
        "os.version": config.os_version,
        "variant": platform.variant,
        "comment": config.comment,
        "config": _run_config_members(config.run),
        "rootfs": {"type": "layers", "diff_ids": list(config.diff_ids)},
        "history": [_history_members(step) for step in config.history],
    }
    present = {key: value for key, value in document.items() if value or key in ("config", "rootfs")}
    return json.dumps(present, ensure_ascii=False, separators=(",", ":")).encode()


def _run_config_members(run: RunConfig) -> dict[str, Any]:
    members: dict[str, Any] = {
        "User": run.user,
        "ExposedPorts": {port: {} for port in run.exposed_ports},
        "Env": list(run.env),
        "Entrypoint": list(run.entrypoint),
        "Cmd": list(run.cmd),
        "Healthcheck": _health_check_members(run.health_check) if run.health_check else None,
        "Volumes": {volume: {} for volume in run.volumes},
        "WorkingDir": run.working_dir,
        "Labels": dict(run.labels),
        "StopSignal": run.stop_signal,
        "Shell": list(run.shell),
        "OnBuild": list(run.on_build),
        "ArgsEscaped": run.args_escaped,
    }
    return {key: value for key, value in members.items() if value}


def _health_check_members(check: HealthCheck) -> dict[str, Any]:
    members = {
        "Test": list(check.test),
        "Interval": check.interval_ns,
        "Timeout": check.timeout_ns,
        "StartPeriod": check.start_period_ns,
        "StartInterval": check.start_interval_ns,
        "Retries": check.retries,
    }
    return {key: value for key, value in members.items() if value}


def _history_members(step: History) -> dict[str, Any]:
    members = {
        "created": _time(step.created_ns),
        "created_by": step.created_by,
        "author": step.author,
        "comment": step.comment,
        "empty_layer": step.empty_layer,
    }
    return {key: value for key, value in members.items() if value}


def _time(moment_ns: int | None) -> str:
    if moment_ns is None:
        return ""
    seconds, nanoseconds = divmod(moment_ns, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{nanoseconds:09d}Z"
