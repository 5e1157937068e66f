"""``sampan.image.v1.Images`` over the puller, the importer and the names."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc

from imaged import convert
from imaged.commit import CommitOptions, Committer
from imaged.images import Images
from imaged.importer import Importer
from imaged.leases import Leases
from imaged.load import Loader
from imaged.login import Login
from imaged.lookup import Lookup
from imaged.model import Image
from imaged.platform_removal import remove_platform
from imaged.pull import Puller
from imaged.push import Pusher
from imaged.save import Saver
from sampan.api.image.v1 import images_pb2 as pb
from sampan.api.image.v1 import images_pb2_grpc as pb_grpc
from sampan.errors import InvalidArgumentError
from sampan.oci.digest import Digest
from sampan.oci.reference import parse_reference

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What brings images to other places, looks at them there, or makes new ones of them."""

    pusher: Pusher
    saver: Saver
    loader: Loader
    committer: Committer
    lookup: Lookup


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
    ) -> None:
        self._images = images
        self._puller = puller
        self._importer = importer
        self._leases = leases
        self._login = login
        # The same sequence has the same encoding, which is most of the work.
        self._listed_from: object = None
        self._listed = pb.ListResponse()
        self._traffic = traffic

    async def Fetch(self, request: pb.FetchRequest, context: Context) -> AsyncIterator[pb.FetchProgress]:
        """Bring an image's content."""
        steps = self._puller.fetch(
            parse_reference(request.reference).with_default_tag(),
            convert.platform_from_proto(request.platform),
            convert.credentials_from_proto(request.credentials),
        )
        async with aclosing(steps):
            async for step in steps:
                yield convert.step_to_proto(step)

    async def Create(self, request: pb.CreateRequest, context: Context) -> pb.CreateResponse:
        """Name what is here."""
        created = await self._images.create(
            parse_reference(request.reference) if request.reference else None,
            convert.descriptor_from_proto(request.target),
            request.lease,
            convert.platform_from_proto(request.platform),
            Digest.parse(request.parent) if request.parent else None,
        )
        return convert.created_to_proto(created)

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        """End a lease, or abandon it."""
        await (self._leases.abandon if request.abandon else self._leases.release)(request.lease)
        return pb.ReleaseResponse()

    async def Get(self, request: pb.GetRequest, context: Context) -> pb.Image:
        """Find an image."""
        return await self._shown(await self._images.get(request.image), manifests=request.manifests)

    async def _shown(self, image: Image, *, manifests: bool) -> pb.Image:
        return convert.image_to_proto(image, await self._images.tree(image.record.target) if manifests else None)

    async def List(self, request: pb.ListRequest, context: Context) -> pb.ListResponse:
        """Show all images."""
        images = await self._images.list()
        if request.manifests:
            return pb.ListResponse(images=[await self._shown(image, manifests=True) for image in images])
        if images is not self._listed_from:
            self._listed, self._listed_from = pb.ListResponse(images=map(convert.image_to_proto, images)), images
        return self._listed

    async def Tag(self, request: pb.TagRequest, context: Context) -> pb.TagResponse:
        """Add a name."""
        await self._images.tag(request.image, parse_reference(request.reference))
        return pb.TagResponse()

    async def Remove(self, request: pb.RemoveRequest, context: Context) -> pb.RemoveResponse:
        """Take away names, and the image with its last one; or one platform."""
        in_use, platform = frozenset(request.in_use), convert.platform_from_proto(request.platform)
        if platform is not None:
            removed = await remove_platform(self._images, request.image, platform, force=request.force, in_use=in_use)
        else:
            removed = await self._images.remove(
                request.image, force=request.force, in_use=in_use, no_prune=request.no_prune
            )
        return convert.removed_to_proto(removed)

    async def Prune(self, request: pb.PruneRequest, context: Context) -> pb.RemoveResponse:
        """Take away many."""
        return convert.removed_to_proto(await self._images.prune(request.images, frozenset(request.in_use)))

    async def Import(self, request_iterator: AsyncIterator[pb.ImportRequest], context: Context) -> pb.ImportResponse:
        """Make an image of a tar."""
        first = await anext(request_iterator, pb.ImportRequest())
        if not first.HasField("options"):
            raise InvalidArgumentError("the first message of an import holds its options")
        options = first.options
        if options.reference:
            parse_reference(options.reference)
        imported = await self._importer.run(
            _chunks(request_iterator), options.changes, options.message, convert.platform_from_proto(options.platform)
        )
        return convert.imported_to_proto(imported)

    async def Commit(self, request: pb.CommitRequest, context: Context) -> pb.ImportResponse:
        """Make an image of a container's changes."""
        if request.reference:
            parse_reference(request.reference)
        layer = convert.layer_from_proto(request.layer) if request.HasField("layer") else None
        options = CommitOptions(
            convert.run_config_from_proto(request.config),
            tuple(request.changes),
            request.author,
            request.message,
            request.created_by,
        )
        return convert.imported_to_proto(await self._traffic.committer.run(request.base, layer, options))

    async def Push(self, request: pb.PushRequest, context: Context) -> AsyncIterator[pb.PushProgress]:
        """Bring an image to its registry."""
        steps = self._traffic.pusher.push(
            parse_reference(request.reference).with_default_tag(),
            convert.credentials_from_proto(request.credentials),
            convert.platform_from_proto(request.platform),
        )
        async with aclosing(steps):
            async for step in steps:
                yield convert.push_to_proto(step)

    async def Save(self, request: pb.SaveRequest, context: Context) -> AsyncIterator[pb.SaveResponse]:
        """Write images as an archive."""
        platform = convert.platform_from_proto(request.platform)
        async with aclosing(self._traffic.saver.archive(tuple(request.images), platform)) as pieces:
            async for piece in pieces:
                yield pb.SaveResponse(chunk=piece)

    async def Load(self, request_iterator: AsyncIterator[pb.LoadRequest], context: Context) -> pb.LoadResponse:
        """Read an archive of images."""
        first = await anext(request_iterator, pb.LoadRequest())
        if not first.HasField("options"):
            raise InvalidArgumentError("the first message of a load holds its options")
        platform = convert.platform_from_proto(first.options.platform)
        loaded = await self._traffic.loader.run(_chunks(request_iterator), platform)
        return convert.loaded_to_proto(loaded)

    async def Roots(self, request: pb.RootsRequest, context: Context) -> pb.RootsResponse:
        """Say what must stay unpacked."""
        return pb.RootsResponse(roots=map(convert.root_to_proto, await self._images.roots()))

    async def Login(self, request: pb.LoginRequest, context: Context) -> pb.LoginResponse:
        """Check credentials."""
        identity_token = await self._login.check(request.registry, convert.credentials_from_proto(request.credentials))
        return pb.LoginResponse(status="Login Succeeded", identity_token=identity_token)

    async def Inspect(self, request: pb.InspectRequest, context: Context) -> pb.InspectResponse:
        """Look at a name at its registry."""
        reference = parse_reference(request.reference).with_default_tag()
        credentials = convert.credentials_from_proto(request.credentials)
        return convert.remote_to_proto(await self._traffic.lookup.inspect(reference, credentials))

    async def Tags(self, request: pb.TagsRequest, context: Context) -> pb.TagsResponse:
        """List a repository's tags."""
        credentials = convert.credentials_from_proto(request.credentials)
        tags = await self._traffic.lookup.tags(parse_reference(request.repository), credentials)
        return pb.TagsResponse(tags=tags)

    async def Search(self, request: pb.SearchRequest, context: Context) -> pb.SearchResponse:
        """Ask a registry for names."""
        credentials = convert.credentials_from_proto(request.credentials)
        results = await self._traffic.lookup.search(request.term, request.limit, credentials)
        return convert.results_to_proto(results)


async def _chunks(requests: AsyncIterator[pb.ImportRequest] | AsyncIterator[pb.LoadRequest]) -> AsyncIterator[bytes]:
    async for request in requests:
        yield request.chunk
