"""Put whole content in the place of what is damaged or missing, from the repositories that it came from."""

import asyncio
from collections.abc import Mapping

from imaged.check import rows
from imaged.content.blobs import ContentStore
from imaged.content.leases import Leases
from imaged.registry.errors import Refusal
from imaged.registry.source import Source, Sources
from imaged.transfer.download import Downloads
from sampan.check import Login, Means, Outcome
from sampan.errors import DataLossError, SampanError
from sampan.oci.descriptor import INDEXES, MANIFESTS, Descriptor
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.resource.image import ANONYMOUS, Credentials
from sampan.store.database import Store
from sampan.store.verifying import ExpectedFile, compare


class Repairer:
    """Repairs blobs, one at a time."""

    def __init__(
        self, store: Store, content: ContentStore, leases: Leases, sources: Sources, downloads: Downloads
    ) -> None:
        self._store = store
        self._content = content
        self._leases = leases
        self._sources = sources
        self._downloads = downloads

    async def repair(self, digest: Digest, means: Means) -> Outcome:
        """Make a blob whole, or forget it if nobody needs it; nothing else changes."""
        claims = await self._store.read(lambda db: rows.claims(db, digest))
        descriptor = await self._store.read(lambda db: rows.describe(db, digest))
        path = self._content.path(digest)
        size = descriptor.size if descriptor is not None else -1
        if await asyncio.to_thread(compare, ExpectedFile(path, size, digest)) is None:
            await self._content.adopt(digest)
            return Outcome(repaired=True, text="its file is whole, and is recorded")
        if not claims.images:
            if claims.rooted:
                return Outcome(repaired=False, text="only the private registry has it: push it again")
            await self._content.forget(digest)
            return Outcome(repaired=True, text="nobody needs it: forgotten")
        if descriptor is None:
            return Outcome(repaired=False, text="nothing says what it was: pull the image again")
        failures = []
        for name in claims.sources:
            try:
                await self._fetch(descriptor, name, means.logins)
            except (SampanError, Refusal) as error:
                failures.append(f"{name}: {error}")
            else:
                return Outcome(repaired=True, text=f"fetched from {name}")
        why = "; ".join(failures) or "it came from no registry: load or build the image again"
        return Outcome(repaired=False, text=why)

    async def _fetch(self, descriptor: Descriptor, name: str, logins: Mapping[str, Login]) -> None:
        reference = parse_reference(name)
        candidates = self._sources.of(reference, _credentials(logins.get(reference.registry)))
        while True:
            source = next(candidates)
            try:
                await source.connect()
                await self._from(descriptor, source)
            except (SampanError, Refusal):
                if source.last:
                    raise
            else:
                return

    async def _from(self, descriptor: Descriptor, source: Source) -> None:
        if descriptor.media_type and descriptor.media_type not in MANIFESTS | INDEXES:
            await self._downloads.fetch(descriptor, source.clients[:1], lambda _: None)
            return
        try:
            data, _ = await source.manifest(descriptor.digest)
        except Refusal:
            if descriptor.media_type:
                raise
            # Part of an index, and so either a manifest or what one is made of.
            await self._downloads.fetch(descriptor, source.clients[:1], lambda _: None)
            return
        if Digest.of(data) != descriptor.digest:
            raise DataLossError(f"the registry sent {Digest.of(data)} instead")
        lease = await self._leases.begin()
        try:
            await self._content.put(data, descriptor.media_type, lease)
        finally:
            await self._leases.let_go(lease)


def _credentials(login: Login | None) -> Credentials:
    if login is None:
        return ANONYMOUS
    return Credentials(login.username, login.password, login.identity_token, login.registry_token)
