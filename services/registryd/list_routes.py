"""``/v2/``, ``/v2/_catalog`` and ``/v2/<name>/tags/list``."""

from aiohttp import web

from registryd.call import Call, json_answer
from registryd.model import Page


async def get_base(_call: Call) -> web.StreamResponse:
    """Say that this is a registry, to a client that may use it."""
    return json_answer({})


async def get_catalog(call: Call) -> web.StreamResponse:
    """List the repositories."""
    last, most = call.page()
    page = await call.parts.manifests.repositories(last, most)
    return json_answer({"repositories": page.items}, _link(call, page, most))


async def get_tags(call: Call) -> web.StreamResponse:
    """List a repository's tags."""
    last, most = call.page()
    page = await call.parts.manifests.tags(call.repository, last, most)
    return json_answer({"name": call.repository, "tags": page.items}, _link(call, page, most))


def _link(call: Call, page: Page, most: int | None) -> dict[str, str]:
    return call.next_page(n=str(most), last=page.items[-1]) if page.more else {}
