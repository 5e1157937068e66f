"""What a device of the Container Device Interface changes in a bundle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runtimed.oci.devices.cdi import CdiDevices, wanted_names
from runtimed.oci.devices.nodes import node_of
from sampan.docker.options.devices import ALL
from sampan.errors import StartError
from sampan.json_types import JsonObject
from sampan.resource.container_spec import DeviceRequest

_KINDS: Final = {"u": "c"}  # two names of one thing


def inject(config: JsonObject, requests: Sequence[DeviceRequest], known: CdiDevices) -> None:
    """Change an OCI ``config.json`` by what the devices asked for need.

    Raises:
        StartError: a device is unknown, or not there; in Docker's words.
    """
    done: set[str] = set()
    for name in wanted_names(requests, known):
        file = known.files[name]
        if file.path not in done:
            done.add(file.path)
            _apply(config, file.common)
        if name not in done:
            done.add(name)
            _apply(config, file.devices[name.partition("=")[2]])
    config["mounts"].sort(key=lambda mount: str(mount["destination"]).rstrip("/").count("/"))


def _apply(config: JsonObject, edits: JsonObject) -> None:
    process, linux = config["process"], config["linux"]
    for entry in edits.get("env") or ():
        name = entry.partition("=")[0]
        process["env"] = [one for one in process["env"] if one.partition("=")[0] != name] + [entry]
    for node in edits.get("deviceNodes") or ():
        _add_node(linux, node)
    for mount in edits.get("mounts") or ():
        options = [str(option) for option in mount.get("options") or ()]
        kind = str(mount.get("type") or "bind")
        if kind == "bind" and not {"bind", "rbind"} & set(options):
            options.append("rbind")
        config["mounts"].append(
            {"destination": mount["containerPath"], "source": mount["hostPath"], "type": kind, "options": options}
        )
    for hook in edits.get("hooks") or ():
        kept = {key: hook[key] for key in ("path", "args", "env", "timeout") if hook.get(key)}
        config.setdefault("hooks", {}).setdefault(hook["hookName"], []).append(kept)
    groups = [int(group) for group in edits.get("additionalGids") or () if int(group) > 0]
    if groups:
        user = process["user"]
        user["additionalGids"] = list(dict.fromkeys((*user.get("additionalGids", ()), *groups)))
    if edits.get("intelRdt"):
        linux["intelRdt"] = edits["intelRdt"]


def _add_node(linux: JsonObject, asked: JsonObject) -> None:
    """Make a device node; what its file leaves open is as on the host."""
    path = str(asked["path"])
    host = Path(str(asked.get("hostPath") or path))
    node: dict[str, object] = {}
    if not asked.get("type") or ("major" not in asked and asked["type"] != "p"):
        try:
            node = node_of(host, path).oci()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise StartError(f"CDI device injection failed: failed to stat CDI host device {host}: {reason}") from error
    node |= {key: asked[key] for key in ("major", "minor", "fileMode", "uid", "gid") if key in asked}
    if asked.get("type"):
        node["type"] = _KINDS.get(asked["type"], asked["type"])
    node["path"] = path
    linux["devices"] = [one for one in linux["devices"] if one["path"] != path] + [node]
    if node["type"] in ("b", "c"):
        access = str(asked.get("permissions") or ALL)
        rule = {"allow": True, "type": node["type"], "major": node["major"], "minor": node["minor"], "access": access}
        linux["resources"].setdefault("devices", []).append(rule)
