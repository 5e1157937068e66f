"""Which versions of the Docker Engine API are spoken, and what a request asks for."""

import re
from typing import Final

from sampan.docker.views.version_view import NEWEST_API, OLDEST_API, version_text
from sampan.errors import InvalidArgumentError

Version = tuple[int, int]

NEWEST: Final[Version] = NEWEST_API
OLDEST: Final[Version] = OLDEST_API
text: Final = version_text

_COMPOSE_1: Final = "docker-compose/1."
_COMPOSE_1_KNOWS: Final[Version] = (1, 44)
_PREFIX: Final = re.compile(r"/v([0-9]+)\.([0-9]+)(?=/)")


def split(path: str) -> tuple[Version, str]:
    """Take the ``/vX.Y`` off a path; without one, the newest version is meant.

    Raises:
        InvalidArgumentError: in Docker's words, a version that is not spoken.
    """
    match = _PREFIX.match(path)
    if match is None:
        return NEWEST, path
    version = (int(match[1]), int(match[2]))
    if version > NEWEST:
        raise InvalidArgumentError(
            f"client version {text(version)} is too new. Maximum supported API version is {text(NEWEST)}"
        )
    if version < OLDEST:
        raise InvalidArgumentError(
            f"client version {text(version)} is too old. Minimum supported API version is {text(OLDEST)}, "
            "please upgrade your client to a newer version"
        )
    return version, path[match.end() :]


def known(version: Version, agent: str) -> Version:
    """Return the newest version up to ``version`` whose shapes a client understands; ``agent`` is what it calls itself.

    docker-compose 1.x asks in the newest one, whatever that is. It fails with a KeyError at an image without
    ContainerConfig when it makes a container anew, and passes over events without a status.
    """
    return min(version, _COMPOSE_1_KNOWS) if agent.startswith(_COMPOSE_1) else version
