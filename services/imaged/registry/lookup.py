"""What registries say of images that nobody pulls: what a name means, and which names there are."""

from typing import Final
from urllib.parse import urlencode

from imaged.registry.auth import basic
from imaged.registry.endpoints import Endpoint, Endpoints
from imaged.registry.errors import Refusal, TransportError
from imaged.registry.pace import read_limited
from imaged.registry.source import Source, Sources
from imaged.registry.transport import Transport
from sampan.errors import (
    InvalidArgumentError,
    RemoteError,
    UnimplementedError,
)
from sampan.oci.config_document import parse_config
from sampan.oci.descriptor import CONFIGS, Descriptor
from sampan.oci.json_documents import load_json
from sampan.oci.manifest import Manifest, parse_document, parse_references
from sampan.oci.platform import Platform
from sampan.oci.reference import Reference, split_term
from sampan.resource.image import Credentials, RemoteImage, SearchResult

# A hundred results with their descriptions take some 30 KB.
_MAX_RESULTS_BYTES: Final = 4 << 20


class Lookup:
    """Asks registries."""

    def __init__(self, sources: Sources, endpoints: Endpoints, transport: Transport) -> None:
        self._sources = sources
        self._endpoints = endpoints
        self._transport = transport

    async def inspect(self, reference: Reference, credentials: Credentials) -> RemoteImage:
        """Return what ``reference`` points to; nothing of it is kept.

        Raises:
            NotFoundError, UnauthenticatedError, PermissionDeniedError: the registry says no, in its own words.
            RemoteError: it does not answer, or with nonsense.
            DataLossError: what it sends is not what the digest says.
        """
        return await self._sources.first_answer(
            reference, credentials, lambda source: _inspect(source, reference), Refusal.as_lookup_error
        )

    async def tags(self, repository: Reference, credentials: Credentials) -> list[str]:
        """Return the tags of a repository, in its registry's order. Raises as ``inspect``."""
        return await self._sources.first_answer(
            repository, credentials, lambda source: source.client.tags(), lambda refused: refused.as_error(repository)
        )

    async def search(self, term: str, limit: int, credentials: Credentials) -> list[SearchResult]:
        """Return what the registry before the first slash of ``term`` finds, Docker's own one if there is none.

        That is a question of the first registry API, ``/v1/search``, which few registries answer.

        Raises:
            InvalidArgumentError: ``term`` is a URL, or empty.
            RemoteError: in Docker's words, the registry offers no search; or it does not answer.
        """
        if term.startswith(("http://", "https://")):
            raise InvalidArgumentError(
                f"invalid repository name: repository name ({term[:200]}) should not have a scheme"
            )
        registry, name = split_term(term)
        if not name:
            raise InvalidArgumentError("invalid repository name: it is empty")
        endpoint = self._endpoints.search(registry, credentials)
        query = urlencode({"q": name, "n": limit})
        for url in endpoint.urls:
            try:
                return await self._ask(endpoint, f"{url}/v1/search?{query}")
            except TransportError:
                if url == endpoint.urls[-1]:
                    raise
        raise AssertionError("an endpoint has a URL")

    async def _ask(self, endpoint: Endpoint, url: str) -> list[SearchResult]:
        headers = {}
        if endpoint.credentials.username and endpoint.credentials.password:
            headers["Authorization"] = basic(endpoint.credentials)
        async with self._transport.request("GET", url, endpoint.tls, headers=headers) as response:
            body = await read_limited(response, _MAX_RESULTS_BYTES, self._transport.stall_timeout_s)
            if response.status != 200:
                raise RemoteError(f"Unexpected status code {response.status}")
        if len(body) > _MAX_RESULTS_BYTES:
            raise RemoteError(f'Get "{url}": the answer is longer than {_MAX_RESULTS_BYTES} bytes')
        answer = load_json(body, f'Get "{url}"')
        results = answer.get("results") if isinstance(answer, dict) else None
        if not isinstance(results, list):
            raise RemoteError(f'Get "{url}": the answer is not a list of results')
        return [_result(each) for each in results if isinstance(each, dict)]


async def _inspect(source: Source, reference: Reference) -> RemoteImage:
    target, data = await source.document(reference)
    what = f"{reference.familiar_name}@{target.digest}"
    try:
        parsed = parse_document(data, target.media_type, what)
    except UnimplementedError:
        # An artifact is nothing to run, and may be looked at.
        parse_references(data, target.media_type, what)
        return RemoteImage(target, ())
    if isinstance(parsed, Manifest):
        platform = await _platform(source, parsed.config)
        return RemoteImage(target, (platform,) if platform else ())
    return RemoteImage(target, tuple(entry.platform for entry in parsed if entry.platform is not None))


async def _platform(source: Source, config: Descriptor) -> Platform | None:
    if config.media_type not in CONFIGS:
        return None
    data = await source.config(config)
    platform = parse_config(data, f"config {config.digest}").platform
    return platform if platform.os or platform.architecture else None


def _result(fields: dict[str, object]) -> SearchResult:
    stars = fields.get("star_count")
    return SearchResult(
        name=_text(fields.get("name")),
        description=_text(fields.get("description")),
        stars=stars if type(stars) is int and abs(stars) < 1 << 62 else 0,
        official=fields.get("is_official") is True,
        automated=fields.get("is_automated") is True,
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
