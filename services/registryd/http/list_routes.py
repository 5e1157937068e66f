"""``/v2/``, ``/v2/_catalog`` and ``/v2/<name>/tags/list``; and ``/v1/search``, the one thing left of an older API."""

from typing import Final

from aiohttp import web

from registryd.http.call import Call, json_answer
from registryd.repositories.model import Page

# Docker's.
_DEFAULT_RESULTS: Final = 25
_MAX_RESULTS: Final = 100


async def get_base(_call: Call) -> web.StreamResponse:
    """Say that this is a registry, to a client that may use it."""
    return json_answer({})


async def get_catalog(call: Call) -> web.StreamResponse:
    """List the repositories."""
    last, most = call.page()
    page = await call.parts.manifests.repositories(last, most)
    return json_answer({"repositories": page.items}, _link(call, page, most))


async def search(call: Call) -> web.StreamResponse:
    """Find repositories by a part of their names, for ``docker search``; nobody has described or starred them."""
    term = call.request.query.get("q", "")
    everything = await call.parts.manifests.repositories("", None)
    found = [name for name in everything.items if term.lower() in name][: _results(call)]
    results = [{"name": name, "description": "", "star_count": 0, "is_official": False} for name in found]
    return json_answer({"num_results": len(results), "query": term, "results": results})


def _results(call: Call) -> int:
    text = call.request.query.get("n", "")
    return min(int(text), _MAX_RESULTS) if text.isascii() and text.isdigit() and len(text) < 10 else _DEFAULT_RESULTS


async def get_tags(call: Call) -> web.StreamResponse:
    """List a repository's tags."""
    last, most = call.page()
    page = await call.parts.manifests.tags(call.repository, last, most)
    return json_answer({"name": call.repository, "tags": page.items}, _link(call, page, most))


def _link(call: Call, page: Page, most: int | None) -> dict[str, str]:
    return call.next_page(n=str(most), last=page.items[-1]) if page.more else {}
