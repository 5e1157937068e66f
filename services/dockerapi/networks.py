"""Networks: /networks/…"""

from typing import Any, Final

from aiohttp import web

from dockerapi.container.create_body import endpoint
from dockerapi.http.call import Call, empty, reply
from dockerapi.http.fields import Fields
from dockerapi.http.listing import reply_list, rows_of
from dockerapi.http.routing import Route
from dockerapi.http.times import rfc3339
from sampan.api.runtime.v1 import networks_pb2
from sampan.errors import InvalidArgumentError
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import whole


async def listing(call: Call) -> web.StreamResponse:
    """GET /networks."""
    listed = call.engine.networks.List(networks_pb2.ListNetworksRequest(filters=call.proto_filters()))

    def rows(page: networks_pb2.ListNetworksResponse) -> list[dict[str, Any]]:
        return [network_json(network, members=False) for network in page.networks]

    return await reply_list(call.request, rows_of(listed, rows))


async def inspect(call: Call) -> web.StreamResponse:
    """GET /networks/{id}."""
    scope = call.text("scope")
    if scope not in ("", "local", "global", "swarm"):
        raise InvalidArgumentError(f"invalid scope {scope!r}")
    with rpc_errors():
        network = await call.engine.networks.Get(networks_pb2.GetNetworkRequest(network=call.args["id"]))
    return reply(network_json(network, members=True))


def network_json(network: networks_pb2.Network, *, members: bool) -> dict[str, Any]:
    """Return a network; its containers only with ``members``, as in an inspect."""
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": True,
        "EnableIPv6": network.enable_ipv6,
        "IPAM": {
            "Driver": network.ipam_driver or "default",
            "Options": dict(network.ipam_options) or None,
            "Config": [_pool_json(pool) for pool in network.pools],
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {member.container_id: _member_json(member) for member in network.members} if members else {},
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


def _pool_json(pool: networks_pb2.Network.Pool) -> dict[str, Any]:
    result: dict[str, Any] = {"Subnet": pool.subnet}
    if pool.ip_range:
        result["IPRange"] = pool.ip_range
    if pool.gateway:
        result["Gateway"] = pool.gateway
    if pool.auxiliary:
        result["AuxiliaryAddresses"] = dict(pool.auxiliary)
    return result


def _member_json(member: networks_pb2.Network.Member) -> dict[str, str]:
    return {
        "Name": member.container_name,
        "EndpointID": member.endpoint_id,
        "MacAddress": member.mac_address,
        "IPv4Address": member.ipv4_address,
        "IPv6Address": member.ipv6_address,
    }


async def create(call: Call) -> web.StreamResponse:
    """POST /networks/create."""
    sent = Fields(await call.body(required=True), "")
    if sent.flag("Ingress") or sent.flag("ConfigOnly") or sent.text("Scope") == "swarm":
        raise InvalidArgumentError("swarm networks are not supported by this engine: create a bridge network")
    ipam = sent.fields("IPAM")
    network = networks_pb2.Network(
        name=sent.text("Name"),
        driver=sent.text("Driver"),
        internal=sent.flag("Internal"),
        attachable=sent.flag("Attachable"),
        enable_ipv6=sent.flag("EnableIPv6"),
        ipam_driver=ipam.text("Driver"),
        ipam_options=ipam.mapping("Options"),
        options=sent.mapping("Options"),
        labels=sent.mapping("Labels"),
        pools=[
            networks_pb2.Network.Pool(
                subnet=pool.text("Subnet"),
                gateway=pool.text("Gateway"),
                ip_range=pool.text("IPRange"),
                auxiliary=pool.mapping("AuxiliaryAddresses") or pool.mapping("AuxAddress"),
            )
            for pool in ipam.items("Config")
        ],
    )
    # Since 1.44 a second network of the same name is always refused.
    check_duplicate = sent.flag("CheckDuplicate") or call.version >= (1, 44)
    request = networks_pb2.CreateNetworkRequest(network=network, check_duplicate=check_duplicate)
    with rpc_errors():
        created = await call.engine.networks.Create(request)
    return reply({"Id": created.id, "Warning": created.warning}, 201)


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /networks/{id}."""
    with rpc_errors():
        await call.engine.networks.Remove(networks_pb2.RemoveNetworkRequest(network=call.args["id"]))
    return empty()


async def connect(call: Call) -> web.StreamResponse:
    """POST /networks/{id}/connect."""
    sent = Fields(await call.body(required=True), "")
    request = networks_pb2.ConnectRequest(
        network=call.args["id"],
        container=sent.text("Container"),
        endpoint=endpoint(call.args["id"], sent.fields("EndpointConfig")),
    )
    with rpc_errors():
        await call.engine.networks.Connect(request)
    return empty(200)


async def disconnect(call: Call) -> web.StreamResponse:
    """POST /networks/{id}/disconnect."""
    sent = Fields(await call.body(required=True), "")
    request = networks_pb2.DisconnectRequest(
        network=call.args["id"], container=sent.text("Container"), force=sent.flag("Force")
    )
    with rpc_errors():
        await call.engine.networks.Disconnect(request)
    return empty(200)


async def prune(call: Call) -> web.StreamResponse:
    """POST /networks/prune."""
    with rpc_errors():
        request = networks_pb2.PruneNetworksRequest(filters=call.proto_filters())
        pruned = await whole(call.engine.networks.Prune(request))
    return reply({"NetworksDeleted": list(pruned.removed) or None})


ROUTES: Final = (
    Route("GET", "/networks", listing),
    Route("POST", "/networks/create", create),
    Route("POST", "/networks/prune", prune),
    Route("GET", "/networks/{id}", inspect),
    Route("DELETE", "/networks/{id}", remove),
    Route("POST", "/networks/{id}/connect", connect),
    Route("POST", "/networks/{id}/disconnect", disconnect),
)
