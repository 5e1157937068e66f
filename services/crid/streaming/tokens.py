"""One-time URLs: who has one may stream what was asked for, once, within a minute.

kubelet passes a URL on to a user's client, or to itself. Nothing else says who opens it, so the token is what a
password would be: 256 random bits.
"""

import secrets
from collections.abc import Callable
from typing import Final

from crid.streaming.requests import AttachRequest, ExecRequest, PortForwardRequest, Request
from sampan.errors import NotFoundError, ResourceExhaustedError

LIFE_S: Final = 60.0

# URLs that may wait for their client; kubelet opens one within milliseconds.
MAX_WAITING: Final = 1000

_TOKEN_BYTES: Final = 32

_ACTIONS: Final[dict[type[Request], str]] = {
    ExecRequest: "exec",
    AttachRequest: "attach",
    PortForwardRequest: "portforward",
}


class Tokens:
    """Requests that wait for their client, by a secret."""

    def __init__(self, now: Callable[[], float]) -> None:
        """``now`` returns seconds that never go back."""
        self._now = now
        self._waiting: dict[str, tuple[float, Request]] = {}  # in the order of their end

    def issue(self, request: Request) -> str:
        """Return the path at which ``request`` is served once, from now on for ``LIFE_S``.

        Raises:
            ResourceExhaustedError: ``MAX_WAITING`` of them wait.
        """
        self._expire()
        if len(self._waiting) >= MAX_WAITING:
            raise ResourceExhaustedError(f"{MAX_WAITING} streaming URLs wait for their clients: try again in a minute")
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._waiting[token] = (self._now() + LIFE_S, request)
        return f"/{_ACTIONS[type(request)]}/{token}"

    def redeem(self, path: str) -> Request:
        """Return what is to be served at ``path``, which is nothing from then on. NotFoundError."""
        self._expire()
        action, _, token = path.removeprefix("/").partition("/")
        _, request = self._waiting.get(token, (0.0, None))
        if request is None or _ACTIONS[type(request)] != action:
            raise NotFoundError("no session waits at this URL: each serves once, within a minute")
        del self._waiting[token]
        return request

    def __len__(self) -> int:
        self._expire()
        return len(self._waiting)

    def _expire(self) -> None:
        now = self._now()
        for token, (end, _) in list(self._waiting.items()):
            if end > now:
                return
            del self._waiting[token]
