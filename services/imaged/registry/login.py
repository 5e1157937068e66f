"""Is there such a user at this registry?"""

from imaged.registry.errors import Refusal
from imaged.registry.source import Sources
from sampan.errors import RemoteError, UnauthenticatedError
from sampan.resource.image import Credentials


class Login:
    """Asks registries about credentials."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def check(self, registry: str, credentials: Credentials) -> str:
        """Return an identity token if the registry hands one out, else nothing.

        Raises:
            UnauthenticatedError: the credentials are not accepted.
            RemoteError: the registry does not answer, or with something else.
        """
        try:
            return await self._sources.login(registry, credentials)
        except Refusal as refused:
            if refused.status in (401, 403):
                raise UnauthenticatedError(str(refused)) from refused
            raise RemoteError(f"login attempt to {refused.url} failed with status: {refused.status}") from refused
