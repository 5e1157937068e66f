"""Routes as data, and the search through them."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import web

from dockerapi.http.call import Call

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_FIELD: Final = re.compile(r"\{(\w+)(\+?)\}")


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path. ``{x}`` stands for one component of the path, ``{x+}`` for one or more: any name."""

    method: str
    path: str
    handler: Handler
    # Has no end of its own, or one that the client determines: cancelled when the client leaves or the service stops.
    # What every other handler began is finished, whoever still listens.
    follows: bool = False
    # Answers by itself, whatever has become of the services.
    alone: bool = False


class Router:
    """Finds the route of a request."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._fixed: dict[tuple[str, str], Route] = {}
        self._patterns: dict[str, list[tuple[re.Pattern[str], Route]]] = {}
        for route in routes:
            if "{" in route.path:
                self._patterns.setdefault(route.method, []).append((_compile(route.path), route))
            else:
                self._fixed[route.method, route.path] = route
        for candidates in self._patterns.values():
            candidates.sort(key=lambda candidate: "+}" in candidate[1].path)

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]] | None:
        """Return the route and the fields of its path, or None.

        Fixed paths come first, and those with any number of components last; of each the first match wins.
        """
        method = "GET" if method == "HEAD" and ("HEAD", path) not in self._fixed else method
        if route := self._fixed.get((method, path)):
            return route, {}
        for pattern, route in self._patterns.get(method, ()):
            if match := pattern.fullmatch(path):
                return route, match.groupdict()
        return None


def _compile(path: str) -> re.Pattern[str]:
    pattern = ""
    end = 0
    for field in _FIELD.finditer(path):
        pattern += re.escape(path[end : field.start()]) + f"(?P<{field[1]}>{'.+' if field[2] else '[^/]+'})"
        end = field.end()
    return re.compile(pattern + re.escape(path[end:]))
