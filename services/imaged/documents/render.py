"""An image's config and manifest as the bytes whose digests name them."""

import json
from datetime import UTC, datetime
from typing import Any

from imaged.images.model import ConfigFile, History, Layer
from sampan.oci.descriptor import OCI_MANIFEST, Descriptor
from sampan.oci.image_config import HealthCheck, RunConfig


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
        "config": _run_config(config.run),
        "rootfs": {"type": "layers", "diff_ids": list(config.diff_ids)},
        "history": [_history(step) for step in config.history],
    }
    return _dump({key: value for key, value in document.items() if value or key in ("config", "rootfs")})


def render_manifest(config: Descriptor, layers: tuple[Layer, ...]) -> bytes:
    """Return the JSON of an OCI image manifest."""
    return _dump(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": _descriptor(config),
            "layers": [_descriptor(layer.descriptor) for layer in layers],
        }
    )


def _dump(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _descriptor(descriptor: Descriptor) -> dict[str, Any]:
    return {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size}


def _run_config(run: RunConfig) -> dict[str, Any]:
    members: dict[str, Any] = {
        "User": run.user,
        "ExposedPorts": {port: {} for port in run.exposed_ports},
        "Env": list(run.env),
        "Entrypoint": list(run.entrypoint),
        "Cmd": list(run.cmd),
        "Healthcheck": _health_check(run.health_check) if run.health_check else None,
        "Volumes": {volume: {} for volume in run.volumes},
        "WorkingDir": run.working_dir,
        "Labels": dict(run.labels),
        "StopSignal": run.stop_signal,
        "Shell": list(run.shell),
        "OnBuild": list(run.on_build),
        "ArgsEscaped": run.args_escaped,
    }
    return {key: value for key, value in members.items() if value}


def _health_check(check: HealthCheck) -> dict[str, Any]:
    members = {
        "Test": list(check.test),
        "Interval": check.interval_ns,
        "Timeout": check.timeout_ns,
        "StartPeriod": check.start_period_ns,
        "StartInterval": check.start_interval_ns,
        "Retries": check.retries,
    }
    return {key: value for key, value in members.items() if value}


def _history(step: History) -> dict[str, Any]:
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
