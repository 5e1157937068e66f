"""What sources ask of the clients whose builds they work for."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from buildd.protocol import StepContext
from buildd.session.protocol import Session, Sessions
from sampan.errors import InvalidArgumentError, NotFoundError, SampanError, UnavailableError, UnimplementedError
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


def check_attributes(scheme: str, attributes: Mapping[str, str], known: Sequence[str]) -> None:
    """Refuse what nobody would look at. Raises InvalidArgumentError, naming the attribute."""
    for name in attributes:
        if name not in known and not any(each.endswith(".") and name.startswith(each) for each in known):
            raise InvalidArgumentError(f"source {scheme}:// does not know the attribute {name}")


def flag(attributes: Mapping[str, str], name: str) -> bool:
    """Return an attribute that is a yes or no."""
    return attributes.get(name, "") in ("true", "1")


def texts(attributes: Mapping[str, str], name: str) -> tuple[str, ...]:
    """Return an attribute that is a JSON list of texts. Raises InvalidArgumentError: it is none."""
    if not attributes.get(name):
        return ()
    try:
        found = json.loads(attributes[name])
    except ValueError as error:
        raise InvalidArgumentError(f"invalid {name} {attributes[name][:100]!r}: {error}") from error
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise InvalidArgumentError(f"invalid {name} {attributes[name][:100]!r}: not a list of texts")
    return tuple(found)


def number(attributes: Mapping[str, str], name: str, default: int = 0) -> int:
    """Return an attribute that is a number, as Go writes one: octal after a 0. Raises InvalidArgumentError."""
    text = attributes.get(name, "")
    if not text:
        return default
    try:
        value = int(text, 8 if text.startswith("0") and text.isdigit() else 0)
    except ValueError:
        raise InvalidArgumentError(f"invalid {name} {text[:100]!r}: not a number") from None
    if value < 0:
        raise InvalidArgumentError(f"invalid {name} {text[:100]!r}: negative")
    return value


def reworded(error: SampanError, message: str) -> SampanError:
    """Return an error of the same kind that says ``message``."""
    return type(error)(message)
