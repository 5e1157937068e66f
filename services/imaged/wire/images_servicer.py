"""``sampan.image.v1.Images`` over the puller, the importer and the names."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import grpc

from imaged.archive.importer import Importer
from imaged.archive.load import Loader
from imaged.archive.save import Saver
from imaged.content.leases import Leases
from imaged.images.commit import Committer
from imaged.images.deferred import Completer
from imaged.images.details import brief, details, named
from imaged.images.model import Image
from imaged.images.names import Images
from imaged.images.platform_removal import remove_platform
from imaged.push.push import Pusher
from imaged.registry.login import Login
from imaged.registry.lookup import Lookup
from imaged.registry.manifests import Manifests
from imaged.registry.referrers import Referrers
from imaged.transfer.pull import Puller
from sampan.api.image.v1 import images_pb2 as pb
from sampan.api.image.v1 import images_pb2_grpc as pb_grpc
from sampan.client.convert import images as convert
from sampan.client.convert.oci import DESCRIPTOR, LAYER, PLATFORM, platform_from_proto
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference
from sampan.resource.image import ImageUse, RemovedImages
from sampan.wire.pages import PAGE_BYTES, pages

Context = grpc.aio.ServicerContext[Any, Any]

# Pages of a list that are kept as they were encoded: thousands of images, unless they are out of the ordinary.
_KEPT_PAGES: Final = 16


@dataclass(frozen=True, slots=True)
class Traffic:
    """What moves images to other places, looks at them there, or makes new ones of them."""

    pusher: Pusher
    saver: Saver
    loader: Loader
    committer: Committer
    lookup: Lookup
    completer: Completer
    manifests: Manifests
    referrers: Referrers


class ImagesServicer(pb_grpc.ImagesServicer):
    """Decodes, calls, encodes."""

    def __init__(
        self,
        images: Images,
        puller: Puller,
        importer: Importer,
        leases: Leases,
        login: Login,
        traffic: Traffic,
        stopping: asyncio.Event,
    ) -> None:
        self._images = images
        self._puller = puller
        self._importer = importer
        self._leases = leases
        self._login = login
        # The same sequence has the same encoding, which is most of the work.
        self._listed_from: object = None
        self._listed: dict[bool, Sequence[pb.ListResponse]] = {}  # brief or not
        self._traffic = traffic
        self._stopping = stopping

    async def Fetch(self, request: pb.FetchRequest, context: Context) -> AsyncIterator[pb.FetchProgress]:
        """Fetch an image's content."""
        steps = self._puller.fetch(
            parse_reference(request.reference).with_default_tag(),
            platform_from_proto(request.platform),
            convert.CREDENTIALS.decode(request.credentials),
            any_single=request.any_single,
        )
        async with aclosing(steps):
            async for step in steps:
                yield convert.fetch_to_proto(step)

    async def Create(self, request: pb.CreateRequest, context: Context) -> pb.CreateResponse:
        """Name what is here."""
        created = await self._images.create(
            parse_reference(request.reference) if request.reference else None,
            DESCRIPTOR.decode(request.target),
            request.lease,
            platform_from_proto(request.platform),
            Digest.parse(request.parent) if request.parent else None,
            frozenset(map(Digest.parse, request.deferred)),
        )
        return convert.NAMED.encode(named(created))

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.CompleteResponse:
        """Name what was made of deferred layers."""
        layers = LAYER.decode_all(request.layers)
        await self._traffic.completer.complete(request.image, layers, request.lease)
        return pb.CompleteResponse()

    async def Forms(self, request: pb.FormsRequest, context: Context) -> pb.FormsResponse:
        """Return the blobs of layers."""
        found = await self._traffic.completer.forms(tuple(map(Digest.parse, request.diff_ids)))
        return pb.FormsResponse(layers=LAYER.encode_all(found))

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        """End a lease, or abandon it."""
        await (self._leases.abandon if request.abandon else self._leases.release)(request.lease)
        return pb.ReleaseResponse()

    async def Keep(self, request_iterator: AsyncIterator[pb.KeepRequest], context: Context) -> None:  # type: ignore[override]
        """Bind leases to this call.

        Not a generator: one that a client's death finds at its yield is closed at some later time.
        """
        request = await anext(request_iterator, None)
        if request is None:
            raise InvalidArgumentError("the first message must name the leases")
        async with self._leases.bound(request.leases, self._stopping) as leases:
            await context.write(pb.KeepResponse(leases=leases))
            async for _ in request_iterator:
                pass

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.Image:
        """Find an image."""
        platform = platform_from_proto(request.platform)
        if platform is None:
            found = await self._images.get(request.image)
        else:
            found = await self._images.of_platform(request.image, platform)
        return await self._shown(found, manifests=request.manifests)

    async def _shown(self, image: Image, *, manifests: bool) -> pb.Image:
        tree = await self._images.tree(image.record.target) if manifests else None
        return convert.IMAGE.encode(details(image, tree))

    async def List(self, request: pb.ListRequest, context: Context) -> AsyncIterator[pb.ListResponse]:
        """Show all images."""
        images = await self._images.list()
        if request.manifests:
            page = pb.ListResponse()
            for image in images:
                page.images.append(await self._shown(image, manifests=True))
                if page.ByteSize() >= PAGE_BYTES:
                    yield page
                    page = pb.ListResponse()
            yield page
            return
        if images is not self._listed_from:
            self._listed, self._listed_from = {}, images
        if (known := self._listed.get(request.brief)) is not None:
            for page in known:
                yield page
            return
        show = brief if request.brief else details
        sent: list[pb.ListResponse] = []
        for page in pages(pb.ListResponse, "images", (convert.IMAGE.encode(show(image)) for image in images)):
            yield page
            if len(sent) <= _KEPT_PAGES:
                sent.append(page)
        if len(sent) <= _KEPT_PAGES and images is self._listed_from:
            self._listed[request.brief] = sent

    async def Tag(self, request: pb.TagRequest, context: Context) -> pb.TagResponse:
        """Add a name."""
        await self._images.tag(request.image, parse_reference(request.reference))
        return pb.TagResponse()

    async def Remove(self, request: pb.RemoveRequest, context: Context) -> AsyncIterator[pb.RemoveResponse]:
        """Take away names, and the image with its last one; or one platform."""
        in_use, platform = convert.USE.decode_all(request.in_use), platform_from_proto(request.platform)
        if platform is not None:
            removed = await remove_platform(self._images, request.image, platform, force=request.force, in_use=in_use)
        else:
            removed = await self._images.remove(
                request.image, force=request.force, in_use=in_use, no_prune=request.no_prune
            )
        for page in _removed(removed):
            yield page

    async def Prune(
        self, request_iterator: AsyncIterator[pb.PruneRequest], context: Context
    ) -> AsyncIterator[pb.RemoveResponse]:
        """Take away many."""
        images: list[str] = []
        in_use: list[ImageUse] = []
        async for request in request_iterator:
            images += request.images
            in_use += convert.USE.decode_all(request.in_use)
        for page in _removed(await self._images.prune(images, in_use)):
            yield page

    async def Import(self, request_iterator: AsyncIterator[pb.ImportRequest], context: Context) -> pb.ImportResponse:
        """Make an image of a tar."""
        first = await anext(request_iterator, pb.ImportRequest())
        if not first.HasField("options"):
            raise InvalidArgumentError("the first message of an import holds its options")
        options = first.options
        if options.reference:
            parse_reference(options.reference)
        imported = await self._importer.run(
            _chunks(request_iterator),
            options.changes,
            options.message,
            platform_from_proto(options.platform),
        )
        return convert.IMPORTED.encode(imported)

    async def Commit(self, request: pb.CommitRequest, context: Context) -> pb.ImportResponse:
        """Make an image of a container's changes."""
        if request.reference:
            parse_reference(request.reference)
        layer = LAYER.decode(request.layer) if request.HasField("layer") else None
        options = convert.COMMIT.decode(request)
        return convert.IMPORTED.encode(await self._traffic.committer.run(request.base, layer, options))

    async def Push(self, request: pb.PushRequest, context: Context) -> AsyncIterator[pb.PushProgress]:
        """Push an image to its registry."""
        steps = self._traffic.pusher.push(
            parse_reference(request.reference).with_default_tag(),
            convert.CREDENTIALS.decode(request.credentials),
            platform_from_proto(request.platform),
            DESCRIPTOR.decode(request.target) if request.HasField("target") else None,
        )
        async with aclosing(steps):
            async for step in steps:
                yield convert.push_to_proto(step)

    async def Save(self, request: pb.SaveRequest, context: Context) -> AsyncIterator[pb.SaveResponse]:
        """Write images as an archive."""
        platforms = PLATFORM.decode_all(request.platforms)
        async with aclosing(self._traffic.saver.archive(tuple(request.images), platforms)) as pieces:
            async for piece in pieces:
                yield pb.SaveResponse(chunk=piece)

    async def Load(
        self, request_iterator: AsyncIterator[pb.LoadRequest], context: Context
    ) -> AsyncIterator[pb.LoadResponse]:
        """Read an archive of images."""
        first = await anext(request_iterator, pb.LoadRequest())
        if not first.HasField("options"):
            raise InvalidArgumentError("the first message of a load holds its options")
        platforms = PLATFORM.decode_all(first.options.platforms)
        loaded = await self._traffic.loader.run(_chunks(request_iterator), platforms)
        for page in pages(pb.LoadResponse, "images", map(convert.LOADED.encode, loaded)):
            yield page

    async def Roots(self, request: pb.RootsRequest, context: Context) -> AsyncIterator[pb.RootsResponse]:
        """Say what must stay unpacked."""
        for page in pages(pb.RootsResponse, "roots", map(convert.ROOT.encode, await self._images.roots())):
            yield page

    async def Login(self, request: pb.LoginRequest, context: Context) -> pb.LoginResponse:
        """Check credentials."""
        identity_token = await self._login.check(request.registry, convert.CREDENTIALS.decode(request.credentials))
        return pb.LoginResponse(status="Login Succeeded", identity_token=identity_token)

    async def Inspect(self, request: pb.InspectRequest, context: Context) -> pb.InspectResponse:
        """Look at a name at its registry."""
        reference = parse_reference(request.reference).with_default_tag()
        credentials = convert.CREDENTIALS.decode(request.credentials)
        return convert.REMOTE.encode(await self._traffic.lookup.inspect(reference, credentials))

    async def GetManifest(self, request: pb.GetManifestRequest, context: Context) -> pb.RemoteManifest:
        """Read a manifest at its registry."""
        found = await self._traffic.manifests.read(
            parse_reference(request.reference).with_default_tag(),
            convert.CREDENTIALS.decode(request.credentials),
            insecure=request.insecure,
        )
        return convert.REMOTE_MANIFEST.encode(found)

    async def PutManifest(self, request: pb.PutManifestRequest, context: Context) -> pb.PutManifestResponse:
        """Give a repository a manifest."""
        digest = await self._traffic.manifests.write(
            parse_reference(request.reference).with_default_tag(),
            request.media_type,
            request.content,
            mount_from=request.mount_from,
            credentials=convert.CREDENTIALS.decode(request.credentials),
            insecure=request.insecure,
        )
        return pb.PutManifestResponse(digest=digest)

    async def Referrers(self, request: pb.ReferrersRequest, context: Context) -> AsyncIterator[pb.ReferrersResponse]:
        """List what is about a manifest at its registry."""
        credentials = convert.CREDENTIALS.decode(request.credentials)
        found = await self._traffic.referrers.about(parse_reference(request.reference), credentials)
        for page in pages(pb.ReferrersResponse, "referrers", map(convert.REFERRER.encode, found)):
            yield page

    async def ReadRemote(self, request: pb.ReadRemoteRequest, context: Context) -> pb.ReadRemoteResponse:
        """Read something small at its registry."""
        content = await self._traffic.referrers.read(
            parse_reference(request.repository),
            DESCRIPTOR.decode(request.descriptor),
            convert.CREDENTIALS.decode(request.credentials),
        )
        return pb.ReadRemoteResponse(content=content)

    async def Tags(self, request: pb.TagsRequest, context: Context) -> AsyncIterator[pb.TagsResponse]:
        """List a repository's tags."""
        credentials = convert.CREDENTIALS.decode(request.credentials)
        tags = await self._traffic.lookup.tags(parse_reference(request.repository), credentials)
        for page in pages(pb.TagsResponse, "tags", tags):
            yield page

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        """Ask a registry for names."""
        credentials = convert.CREDENTIALS.decode(request.credentials)
        results = await self._traffic.lookup.search(request.term, request.limit, credentials)
        return pb.SearchResponse(results=convert.RESULT.encode_all(results))


async def _chunks(requests: AsyncIterator[pb.ImportRequest] | AsyncIterator[pb.LoadRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request.chunk


def _removed(removed: RemovedImages) -> Iterator[pb.RemoveResponse]:
    changes = map(convert.CHANGE.encode, removed.changes)
    return pages(pb.RemoveResponse, "changes", changes, reclaimed_bytes=removed.reclaimed_bytes)
