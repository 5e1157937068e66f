"""Sources: the places that may serve an image, asked one after the other, each as often as is reasonable."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TypeVar

from imaged.registry.auth import Tokens
from imaged.registry.client import RegistryClient
from imaged.registry.endpoints import Endpoint, Endpoints
from imaged.registry.errors import Refusal
from imaged.registry.pace import read_limited
from imaged.registry.retry import RetryPolicy
from imaged.registry.transport import Transport
from sampan.errors import DataLossError, SampanError
from sampan.log import log
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.manifest import MAX_CONFIG_BYTES
from sampan.oci.reference import Reference
from sampan.resource.image import Credentials

T = TypeVar("T")


class Source:
    """One place, and those behind it that its blobs may come from instead."""

    def __init__(
        self,
        client: RegistryClient,
        fallbacks: tuple[RegistryClient, ...],
        retry: RetryPolicy,
        retried: Callable[[], None],
    ) -> None:
        self._retried = retried
        self.client = client
        self.clients = (client, *fallbacks)
        self.last = not fallbacks
        # Where there is another place to ask, going there is better than waiting.
        self._retry = retry if self.last else replace(retry, attempts=1)

    async def connect(self) -> None:
        """See ``RegistryClient.connect``; tried once, since whoever waits wants to know at once."""
        await self.client.connect()

    async def manifest(self, tag_or_digest: str) -> tuple[bytes, str]:
        """See ``RegistryClient.manifest``; tried again while that may help."""
        return await self._retry.run(lambda: self.client.manifest(tag_or_digest), self._tell)

    def _tell(self, error: Exception, delay_s: float) -> None:
        self._retried()
        log.info("manifest tried again", error=str(error), delay_s=round(delay_s, 1))

    async def document(self, reference: Reference) -> tuple[Descriptor, bytes]:
        """Return a manifest or an index, which is what its digest says.

        Raises:
            Refusal, RemoteError: as ``RegistryClient.manifest``.
            DataLossError: it is something else than the reference's digest says.
        """
        data, media_type = await self.manifest(str(reference.digest or reference.tag))
        found = Digest.of(data)
        if reference.digest not in (None, found):
            raise DataLossError(
                f"manifest verification failed for digest {reference.digest}: the registry sent {found}"
            )
        return Descriptor(media_type, found, len(data)), data

    async def config(self, config: Descriptor) -> bytes:
        """Return a config, which is what its descriptor says. Raises as ``document``."""
        async with self.client.blob(config.digest) as response:
            data = await read_limited(response, MAX_CONFIG_BYTES)
        if len(data) != config.size or Digest.of(data) != config.digest:
            raise DataLossError(f"config {config.digest}: the registry sent {len(data)} bytes of {Digest.of(data)}")
        return data


class Sources:
    """Makes clients for what is configured."""

    def __init__(
        self,
        endpoints: Endpoints,
        transport: Transport,
        tokens: Tokens,
        retry: RetryPolicy,
        retried: Callable[[], None] = lambda: None,
    ) -> None:
        """``retried`` is called before a request is sent again."""
        self._retried = retried
        self._endpoints = endpoints
        self._transport = transport
        self._tokens = tokens
        self._retry = retry

    def of(self, reference: Reference, credentials: Credentials, *, insecure: bool = False) -> Iterator[Source]:
        """Yield where to ask for an image, best first; the last one, the registry itself, has ``last`` set.

        ``insecure`` is about the registry, see ``Endpoints.of``.
        """
        clients = tuple(
            self._client(endpoint, reference.repository)
            for endpoint in self._endpoints.of(reference.registry, credentials, insecure=insecure)
        )
        for position, client in enumerate(clients):
            yield Source(client, clients[position + 1 :], self._retry, self._retried)

    async def first_answer(
        self,
        reference: Reference,
        credentials: Credentials,
        ask: Callable[[Source], Awaitable[T]],
        as_error: Callable[[Refusal], SampanError],
    ) -> T:
        """Ask the mirrors, and then the registry, whose answer counts whatever it is."""
        for source in self.of(reference, credentials):
            try:
                await source.connect()
                return await ask(source)
            except (SampanError, Refusal) as error:
                if source.last and isinstance(error, Refusal):
                    raise as_error(error) from error
                if source.last:
                    raise
                log.warning("mirror cannot tell", mirror=source.client.url, image=str(reference), error=str(error))
        raise AssertionError("the last source has answered")

    async def login(self, registry: str, credentials: Credentials) -> str:
        """Check credentials; return an identity token if the registry hands one out.

        Raises:
            Refusal, UnauthenticatedError: they are not accepted.
            RemoteError: the registry does not answer.
        """
        client = self._client(self._endpoints.login(registry, credentials), "")
        await client.connect()
        return await client.login()

    def _client(self, endpoint: Endpoint, repository: str) -> RegistryClient:
        return RegistryClient(self._transport, self._tokens, endpoint, repository)
