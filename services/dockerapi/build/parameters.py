"""The query of ``POST /build`` as what a builder is asked for.

Reference: Docker Engine API 1.43, "ImageBuild"; moby/buildkit, attributes of ``dockerfile.v0``.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dockerapi.http.call import Call
from dockerapi.http.decode import decode, shown
from dockerapi.http.fields import Fields
from sampan.build.protocols import FindCredentials
from sampan.build.request import NETWORK_MODE, STEP_NETWORKS, CacheOption, Export, image_names, step_network
from sampan.docker.options.hosts import build_hosts
from sampan.docker.options.namespaces import namespace_path
from sampan.errors import InvalidArgumentError
from sampan.oci.reference import parse_reference

CLIENT_SESSION: Final = "client-session"
UPLOAD_REQUEST: Final = "upload-request"
BUILDKIT: Final = "2"  # the ``version`` of a client that is BuildKit's

# What clients call Docker's own registry, the entry of their configurations first.
_HUB: Final = ("https://index.docker.io/v1/", "docker.io", "registry-1.docker.io", "index.docker.io")


# Limits of each step's process.
_LIMITS: Final = ("memory", "memswap", "cpushares", "cpuperiod", "cpuquota")
_CPUSETS: Final = ("cpusetcpus", "cpusetmems")


@dataclass(frozen=True, slots=True)
class BuildParameters:
    """One build, but for where its context comes from."""

    attributes: Mapping[str, str]  # of the frontend
    exports: tuple[Export, ...]
    cache_imports: tuple[CacheOption, ...]
    cache_exports: tuple[CacheOption, ...]
    entitlements: frozenset[str]
    tags: tuple[str, ...]  # as the user gave them
    remote: str
    quiet: bool


def parse_parameters(call: Call) -> BuildParameters:
    """Read the query.

    Raises:
        InvalidArgumentError: a value that cannot be, or an option that has no effect here; named.
    """
    _refuse(call)
    tags = tuple(call.request.query.getall("t", []))
    attributes, entitlements = _attributes(call)
    build_args = _texts(call, "buildargs")
    inline = _truth(build_args.get("BUILDKIT_INLINE_CACHE") or "")
    return BuildParameters(
        attributes=attributes,
        exports=(_export(call, tags),),
        cache_imports=tuple(CacheOption("registry", {"ref": name}) for name in _list(call, "cachefrom")),
        cache_exports=(CacheOption("inline"),) if inline else (),
        entitlements=entitlements,
        tags=tags,
        remote=call.text("remote"),
        quiet=call.flag("q"),
    )


def _refuse(call: Call) -> None:
    if call.flag("squash"):
        raise InvalidArgumentError("squash is only supported with experimental mode")
    if (isolation := call.text("isolation")) not in ("", "default"):
        raise InvalidArgumentError(f"unsupported isolation: {shown(isolation)}: linux only supports 'default'")
    if any(call.request.query.getall("securityopt", [])):
        raise InvalidArgumentError("The daemon on this platform does not support setting security options on build")


def _attributes(call: Call) -> tuple[Mapping[str, str], frozenset[str]]:
    attributes = {"image-resolve-mode": "pull" if call.flag("pull") else "default"}
    if (name := call.text("dockerfile")) not in ("", "."):
        attributes["filename"] = name
    for attribute, parameter in (("target", "target"), ("platform", "platform"), ("cgroup-parent", "cgroupparent")):
        if value := call.text(parameter):
            attributes[attribute] = value
    attributes |= {name: text for name in _LIMITS if (text := call.text(name)) not in ("", "0")}
    attributes |= {name: text for name in _CPUSETS if (text := call.text(name))}
    if call.flag("nocache"):
        attributes["no-cache"] = ""
    if shm_bytes := call.number("shmsize", 0):
        attributes["shm-size"] = str(shm_bytes)
    attributes |= {f"build-arg:{key}": value for key, value in _texts(call, "buildargs").items() if value is not None}
    attributes |= {f"label:{key}": value or "" for key, value in _texts(call, "labels").items()}
    if hosts := build_hosts(call.request.query.getall("extrahosts", [])):
        attributes["add-hosts"] = hosts
    if ulimits := _ulimits(call):
        attributes["ulimit"] = ulimits
    mode = call.text("networkmode")
    if mode not in STEP_NETWORKS and not namespace_path(mode) and call.text("version") != BUILDKIT:
        return attributes | {NETWORK_MODE: mode}, frozenset()
    network, granted = step_network(mode)
    return attributes | network, granted


def _ulimits(call: Call) -> str:
    text = call.text("ulimits")
    if not text:
        return ""
    rows = decode(text, "error reading ulimit settings")
    if rows is None:  # what old clients say
        return ""
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InvalidArgumentError("error reading ulimit settings: expected a list of objects")
    limits = [Fields(row, "ulimits.") for row in rows]
    return ",".join(f"{row.text('Name')}={row.number('Soft')}:{row.number('Hard')}" for row in limits)


def _texts(call: Call, name: str) -> dict[str, str | None]:
    """Return a parameter that is a JSON object of texts; a null is an argument without a value."""
    text = call.text(name)
    if not text:
        return {}
    what = {"buildargs": "error reading build args", "labels": "error reading labels"}[name]
    value = decode(text, what)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(each is None or isinstance(each, str) for each in value.values()):
        raise InvalidArgumentError(f"{what}: expected an object of strings")
    return value


def _list(call: Call, name: str) -> list[str]:
    text = call.text(name)
    if not text:
        return []
    value = decode(text, f"error reading {name}")
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidArgumentError(f"error reading {name}: expected a list of strings")
    return value


def _export(call: Call, tags: tuple[str, ...]) -> Export:
    outputs = decode(call.text("outputs") or "[]", "error reading outputs") or []
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
        raise InvalidArgumentError("error reading outputs: expected a list of objects")
    if len(outputs) > 1:
        raise InvalidArgumentError("multiple outputs not supported")
    if outputs:
        output = Fields(outputs[0], "outputs.")
        kind, attributes = output.text("Type"), output.mapping("Attrs")
        if kind not in ("", "image", "moby", "docker"):
            return Export(kind, attributes)
    else:
        attributes = {}
    if tags:
        attributes = {**attributes, "name": image_names(tags)}
    return Export("moby", attributes)


def _truth(text: str) -> bool:
    return text.lower() in ("1", "t", "true")


def familiar(tag: str) -> str:
    """Return a tag as it is shown to the user."""
    return parse_reference(tag).with_default_tag().familiar


def registry_credentials(header: str) -> FindCredentials:
    """Return what finds a registry's credentials in ``X-Registry-Config``: base64 of JSON, in the URL alphabet.

    Raises:
        InvalidArgumentError: not such a header.
    """
    sent = _sent_credentials(header) if header else {}

    async def find(registry: str) -> tuple[str, str] | None:
        names = _HUB if registry == "docker.io" else (registry, f"https://{registry}")
        return next((sent[name] for name in names if name in sent), None)

    return find


def _sent_credentials(header: str) -> Mapping[str, tuple[str, str]]:
    what = "invalid X-Registry-Config header: expected JSON in base64url"
    plain = header.replace("+", "-").replace("/", "_").rstrip("=")
    try:
        document = base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))
    except (binascii.Error, ValueError):
        raise InvalidArgumentError(what) from None
    hosts = decode(document, what)
    if hosts is None:  # what the docker command says with BuildKit
        return {}
    if not isinstance(hosts, dict):
        raise InvalidArgumentError(what)
    found = {}
    for host, value in hosts.items():
        if not isinstance(value, dict):
            raise InvalidArgumentError(what)
        sent = Fields(value, f"X-Registry-Config.{host}.")
        if token := sent.text("identitytoken"):
            found[host] = ("<token>", token)
        elif user := sent.text("username"):
            found[host] = (user, sent.text("password"))
    return found
