"""Results of ADD, by version: read, checked, and turned into another version's.

Reference: CNI specification 1.1, "Result types"; 0.4.0, where an address says its ``version``.
"""

from collections.abc import Callable
from ipaddress import ip_address, ip_interface
from typing import Final, TypeVar

from crid.cni.model import (
    INTERFACE,
    VERSIONS,
    Address,
    Attachment,
    Command,
    Dns,
    Interface,
    IPAddress,
    PluginError,
    PodNetwork,
    Result,
    at_least,
)
from sampan.json_types import JsonObject

T = TypeVar("T")

_MAX_ADDRESSES: Final = 64  # of one pod; more is nonsense, and would be shown wherever pods are listed


def parse(document: object, version: str) -> Result:
    """Return what a result says; its document is turned into ``version``'s form.

    Raises:
        ValueError: it is no result of a version that is spoken here; the sentence says why.
    """
    if not isinstance(document, dict):
        raise ValueError("the result is not a JSON object")
    said = document.get("cniVersion", version)
    if said not in VERSIONS:
        raise ValueError(f"the result is of CNI {said!r}: {VERSIONS[0]} to {VERSIONS[-1]} are spoken here")
    interfaces = tuple(_interface(each) for each in _list(document, "interfaces"))
    addresses = tuple(_address(each, len(interfaces)) for each in _list(document, "ips"))
    if len(addresses) > _MAX_ADDRESSES:
        raise ValueError(f"the result has {len(addresses)} addresses, the most is {_MAX_ADDRESSES}")
    _list(document, "routes")  # obeyed by plugins, not by us; only its shape matters
    return Result(_converted(document, version), interfaces, addresses, _dns(document.get("dns")))


def _list(document: JsonObject, key: str) -> list[JsonObject]:
    value = [] if document.get(key) is None else document[key]
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise ValueError(f"{key} of the result is not a list of objects")
    return value


def _interface(document: JsonObject) -> Interface:
    name, mac, sandbox = (document.get(key) or "" for key in ("name", "mac", "sandbox"))
    if not isinstance(name, str) or not name or not isinstance(mac, str) or not isinstance(sandbox, str):
        raise ValueError("an interface of the result has no name")
    return Interface(name, mac, sandbox)


def _address(document: JsonObject, interfaces: int) -> Address:
    text, gateway, index = document.get("address"), document.get("gateway"), document.get("interface")
    if not isinstance(text, str) or "/" not in text:
        raise ValueError(f"{text!r} of the result is not an address with the length of its prefix")
    address = _parsed(ip_interface, text, "address")
    if address.ip.is_unspecified or address.ip.is_multicast or address.ip.is_loopback:
        raise ValueError(f"the result gives the address {text}, which no pod can have")
    if index is not None and (isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < interfaces):
        raise ValueError(f"address {text} of the result is of interface {index!r}, and there are {interfaces}")
    way: IPAddress | None = _parsed(ip_address, gateway, "gateway") if gateway else None
    return Address(address, way, index)


def _parsed(parse_text: Callable[[str], T], text: object, what: str) -> T:
    # ``ip_address(5)`` is an address, too.
    if not isinstance(text, str):
        raise ValueError(f"{what} {text!r} of the result is not a string")
    try:
        return parse_text(text)
    except ValueError as error:
        raise ValueError(f"{what} of the result: {error}") from None


def _dns(document: object) -> Dns:
    if document is None:
        return Dns()
    if not isinstance(document, dict):
        raise ValueError("dns of the result is not an object")
    servers, searches, options = (_strings(document, key) for key in ("nameservers", "search", "options"))
    return Dns(servers, searches, options, str(document.get("domain") or ""))


def _strings(document: JsonObject, key: str) -> tuple[str, ...]:
    value = [] if document.get(key) is None else document[key]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{key} of the result is not a list of strings")
    return tuple(value)


def _converted(document: JsonObject, version: str) -> JsonObject:
    """Return the result in another version's form: before 1.0.0 an address says its family."""
    changed = {**document, "cniVersion": version}
    if "ips" in document:
        changed["ips"] = [_ip(each, version) for each in _list(document, "ips")]
    return changed


def _ip(document: JsonObject, version: str) -> JsonObject:
    rest = {key: value for key, value in document.items() if key != "version"}
    if at_least(version, "1.0.0"):
        return rest
    return {"version": "6" if ":" in str(document.get("address")) else "4", **rest}


def pod_network(attachment: Attachment, result: Result) -> PodNetwork:
    """Return what a result means for the pod. Raises PluginError: it has no address there."""
    addresses = result.of_interface(INTERFACE)
    if not addresses:
        last = attachment.network.plugins[-1].type
        raise PluginError(last, Command.ADD, f"the result has no address for {INTERFACE} of the pod")
    ordered = tuple(sorted(addresses, key=lambda address: address.version))
    return PodNetwork(attachment.network.name, ordered, result.dns, result.interfaces)
