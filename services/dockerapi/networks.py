"""Networks: /networks/…"""

from collections.abc import Mapping
from typing import Final

from aiohttp import web

from dockerapi.container.create_body import endpoint
from dockerapi.http.call import Call, empty, reply
from dockerapi.http.fields import Fields
from dockerapi.http.listing import reply_list, rows_of
from dockerapi.http.routing import Route
from dockerapi.http.versions import Version
from sampan.docker.options.networks import check_scope, without_families
from sampan.docker.views.network_view import network_json, status_json
from sampan.errors import InvalidArgumentError
from sampan.resource.network import AddressPool, NetworkRequest


async def listing(call: Call) -> web.StreamResponse:
    """GET /networks."""
    pages = call.networks.pages(call.chosen())
    return await reply_list(call.request, rows_of(pages, lambda network: network_json(network, members=False)))


async def inspect(call: Call) -> web.StreamResponse:
    """GET /networks/{id}."""
    scope = call.text("scope")
    if scope not in ("", "local", "global", "swarm"):
        raise InvalidArgumentError(f"invalid scope {scope!r}")
    network = await call.networks.get(call.args["id"])
    status = status_json(network) if call.version >= (1, 52) else None
    return reply(network_json(network, members=True) | ({"Status": status} if status else {}))


async def create(call: Call) -> web.StreamResponse:
    """POST /networks/create."""
    request = parse_request(await call.body(required=True), call.version)
    return reply({"Id": await call.networks.create(request), "Warning": ""}, 201)


def parse_request(body: Mapping[str, object], version: Version) -> NetworkRequest:
    """Read the body, of a version. InvalidArgumentError for what is of swarm alone."""
    sent = Fields(body, "")
    check_scope(sent.text("Scope"), ingress=sent.flag("Ingress"))
    ipam = sent.fields("IPAM")
    return NetworkRequest(
        name=sent.text("Name"),
        driver=sent.text("Driver"),
        internal=sent.flag("Internal"),
        attachable=sent.flag("Attachable"),
        disable_ipv4=version >= (1, 48) and not sent.flag("EnableIPv4", default=True),
        enable_ipv6=sent.flag("EnableIPv6"),
        config_only=sent.flag("ConfigOnly"),
        config_from=sent.fields("ConfigFrom").text("Network"),
        ipam_driver=ipam.text("Driver"),
        ipam_options=ipam.mapping("Options"),
        options=_options(sent, version),
        labels=sent.mapping("Labels"),
        pools=tuple(
            AddressPool(
                subnet=pool.text("Subnet"),
                gateway=pool.text("Gateway"),
                ip_range=pool.text("IPRange"),
                auxiliary=pool.mapping("AuxiliaryAddresses") or pool.mapping("AuxAddress"),
            )
            for pool in ipam.items("Config")
        ),
    )


def _options(sent: Fields, version: Version) -> dict[str, str]:
    """Return a driver's options, without those of families of which the body says something."""

    def says(field: str) -> bool:
        # Clients of earlier versions say false where nobody has said anything.
        return sent.has(field) and (sent.flag(field) or version >= (1, 47))

    return without_families(sent.mapping("Options"), ipv4=says("EnableIPv4"), ipv6=says("EnableIPv6"))


async def remove(call: Call) -> web.StreamResponse:
    """DELETE /networks/{id}."""
    await call.networks.remove(call.args["id"])
    return empty()


async def connect(call: Call) -> web.StreamResponse:
    """POST /networks/{id}/connect."""
    sent = Fields(await call.body(required=True), "")
    wanted = endpoint(call.args["id"], sent.fields("EndpointConfig"))
    await call.networks.connect(call.args["id"], container_of(call, sent), wanted)
    return empty(200)


async def disconnect(call: Call) -> web.StreamResponse:
    """POST /networks/{id}/disconnect."""
    sent = Fields(await call.body(required=True), "")
    await call.networks.disconnect(call.args["id"], container_of(call, sent), force=sent.flag("Force"))
    return empty(200)


def container_of(call: Call, sent: Fields) -> str:
    """Return the container that a body names, by its ID if a socket's scope has looked at it."""
    return call.args.get("container") or sent.text("Container")


async def prune(call: Call) -> web.StreamResponse:
    """POST /networks/prune."""
    removed = await call.networks.prune(call.chosen())
    return reply({"NetworksDeleted": list(removed) or None})


ROUTES: Final = (
    Route("GET", "/networks", listing),
    Route("GET", "/networks/", listing),
    Route("POST", "/networks/create", create),
    Route("POST", "/networks/prune", prune),
    Route("GET", "/networks/{id+}", inspect),
    Route("DELETE", "/networks/{id+}", remove),
    Route("POST", "/networks/{id+}/connect", connect),
    Route("POST", "/networks/{id+}/disconnect", disconnect),
)
