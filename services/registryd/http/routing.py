"""Which paths there are, and who answers them."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from registryd.http import blob_routes, manifest_routes
from registryd.http.call import Call, parse_repository
from registryd.repositories.refusal import Code, RefusedError

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

READING: Final = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Route:
    """A path, and what can be done there. ``name`` is what it is counted as."""

    name: str
    pattern: re.Pattern[str]
    handlers: Mapping[str, Handler]


def _route(name: str, path: str, **handlers: Handler) -> Route:
    return Route(name, re.compile(path), handlers)


_NAME: Final = "/v2/(?P<repository>.+)"

# The first that matches; a digest looks like any other word until it is parsed.
ROUTES: Final = (
    _route("base", "/v2/?", GET=manifest_routes.get_base, HEAD=manifest_routes.get_base),
    _route("search", "/v1/search", GET=manifest_routes.search),
    _route("catalog", "/v2/_catalog", GET=manifest_routes.get_catalog),
    _route("tags", f"{_NAME}/tags/list", GET=manifest_routes.get_tags),
    _route(
        "manifest",
        f"{_NAME}/manifests/(?P<reference>[^/]+)",
        GET=manifest_routes.get_manifest,
        HEAD=manifest_routes.get_manifest,
        PUT=manifest_routes.put_manifest,
        DELETE=manifest_routes.delete_manifest,
    ),
    _route("referrers", f"{_NAME}/referrers/(?P<digest>[^/]+)", GET=manifest_routes.get_referrers),
    _route("uploads", f"{_NAME}/blobs/uploads/?", POST=blob_routes.begin_upload),
    _route(
        "upload",
        f"{_NAME}/blobs/uploads/(?P<upload>[^/]+)",
        GET=blob_routes.upload_state,
        PATCH=blob_routes.add_to_upload,
        PUT=blob_routes.finish_upload,
        DELETE=blob_routes.cancel_upload,
    ),
    _route(
        "blob",
        f"{_NAME}/blobs/(?P<digest>[^/]+)",
        GET=blob_routes.get_blob,
        HEAD=blob_routes.get_blob,
        DELETE=blob_routes.delete_blob,
    ),
)


def find_route(path: str) -> tuple[Route, dict[str, str]]:
    """Return the route of a path, and what is variable in it; ``repository`` is checked.

    Raises:
        RefusedError: NOT_FOUND, NAME_INVALID.
    """
    for route in ROUTES:
        match = route.pattern.fullmatch(path)
        if match is not None:
            args = match.groupdict()
            if "repository" in args:
                parse_repository(args["repository"])
            return route, args
    raise RefusedError(Code.NOT_FOUND, "page not found: this is a registry, its API is at /v2/")


def find_handler(route: Route, method: str, *, read_only: bool) -> Handler:
    """Return who answers ``method`` there.

    Raises:
        RefusedError: UNSUPPORTED.
    """
    allowed = [known for known in route.handlers if known in READING or not read_only]
    if method in allowed:
        return route.handlers[method]
    why = "this registry is read-only" if method in route.handlers else f"{method} is not supported here"
    raise RefusedError(Code.UNSUPPORTED, why, {"Allow": ", ".join(allowed)})
