"""The clients of the builds that a step is for: their sessions, and what all of them may be asked."""

from typing import Final

from buildd.protocol import StepContext
from buildd.session.protocol import Session, Sessions
from sampan.errors import InvalidArgumentError, NotFoundError, UnavailableError, UnimplementedError
from sampan.oci.reference import DEFAULT_REGISTRY, Reference
from sampan.resource.image import Credentials

_HUB: Final = "registry-1.docker.io"  # what clients call Docker Hub


class Clients:
    """The clients of builds, by their sessions."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def first(self, context: StepContext, wanted: str = "") -> Session:
        """Return the session ``wanted``, or else the first of those that wait for a step and are attached.

        Raises:
            NotFoundError: there is none.
        """
        failure = NotFoundError("no active session of a client: it has left, or never offered one")
        for each in (wanted,) if wanted else context.sessions():
            try:
                return await self._sessions.get(each)
            except NotFoundError as error:
                failure = error
        raise failure

    async def of(self, id: str) -> Session:
        """Return a session, as soon as it is attached. NotFoundError: it is not."""
        return await self._sessions.get(id)

    async def credentials(self, reference: Reference, context: StepContext) -> Credentials | None:
        """Return what a client uses at a registry; None: nobody has any."""
        host = _HUB if reference.registry == DEFAULT_REGISTRY else reference.registry
        for each in context.sessions():
            try:
                found = await (await self._sessions.get(each)).credentials(host)
            except (NotFoundError, UnimplementedError, UnavailableError):
                continue
            if found is not None and found.secret:
                if not found.username:
                    return Credentials(identity_token=found.secret)
                return Credentials(found.username, found.secret)
        return None

    async def secret(self, id: str, context: StepContext) -> str:
        """Return a secret that a client may have, as one line; empty if nobody has it."""
        for session in context.sessions():
            try:
                value = (await (await self._sessions.get(session)).secret(id)).decode("utf-8", "replace").strip()
            except (NotFoundError, UnimplementedError, UnavailableError):
                continue
            if not value.isprintable():
                raise InvalidArgumentError(f"secret {id} is to be one line of text")
            return value
        return ""
