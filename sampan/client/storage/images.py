"""Client of ``sampan.image.v1.Images``."""

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import grpc

from sampan.api.image.v1 import images_pb2 as pb
from sampan.api.image.v1.images_pb2_grpc import ImagesStub
from sampan.client.calls import Recent, read, requests
from sampan.client.convert import images as convert
from sampan.client.convert.oci import DESCRIPTOR, LAYER, PLATFORM, platform_to_proto
from sampan.client.storage.leases import kept
from sampan.disk import Root
from sampan.oci.descriptor import Descriptor
from sampan.oci.digest import Digest
from sampan.oci.platform import Platform
from sampan.resource.image import (
    Credentials,
    ImageCommit,
    ImageDetails,
    ImageUse,
    Imported,
    Layer,
    LoadedImage,
    NamedImage,
    Referrer,
    RemoteImage,
    RemoteManifest,
    RemovedImages,
    SearchResult,
)
from sampan.resource.listing import Page
from sampan.resource.transfer import FetchProgress, PushProgress
from sampan.wire.channel import rpc_errors
from sampan.wire.pages import pages, send, whole
from sampan.wire.repeating import FORMS, GET_IMAGE, LIST_IMAGES, Repeating

if TYPE_CHECKING:  # the stubs' asynchronous types exist only for type checkers
    from sampan.api.image.v1.images_pb2_grpc import ImagesAsyncStub

_LIST: Final = pb.DESCRIPTOR.services_by_name["Images"].methods_by_name["List"]


class ImagesClient:
    """Satisfies ``resource.storage.images.Images``."""

    def __init__(self, channel: grpc.aio.Channel, *, deadline_s: float | None = None) -> None:
        """``deadline_s`` bounds calls that answer at once: lists, and what is needed of layers."""
        self._stub: ImagesAsyncStub = ImagesStub(channel)
        self._deadline_s = deadline_s
        self._again = Repeating(channel, "imaged")
        self._pages = Recent(channel, _LIST, pb.ListResponse, _page)

    def fetch(
        self,
        reference: str,
        platform: Platform | None = None,
        credentials: Credentials | None = None,
        *,
        any_single: bool = False,
    ) -> AsyncGenerator[FetchProgress, None]:
        """Bring an image's content under a lease."""
        request = pb.FetchRequest(
            reference=reference,
            platform=platform_to_proto(platform),
            credentials=_credentials(credentials),
            any_single=any_single,
        )
        return read(self._stub.Fetch(request), convert.fetch_from_proto)

    async def create(
        self,
        reference: str,
        target: Descriptor,
        lease: str,
        platform: Platform | None = None,
        parent: str = "",
        deferred: Collection[Digest] = (),
    ) -> NamedImage:
        """Name what is here."""
        request = pb.CreateRequest(
            reference=reference,
            target=DESCRIPTOR.encode(target),
            lease=lease,
            platform=platform_to_proto(platform),
            parent=parent,
            deferred=deferred,
        )
        with rpc_errors():
            return convert.NAMED.decode(await self._stub.Create(request))

    async def complete(self, image: str, layers: Sequence[Layer], lease: str) -> None:
        """Name blobs of deferred layers."""
        with rpc_errors():
            await self._stub.Complete(pb.CompleteRequest(image=image, layers=LAYER.encode_all(layers), lease=lease))

    async def forms(self, diff_ids: Sequence[Digest]) -> Sequence[Layer]:
        """Return the blobs of layers."""
        request = pb.FormsRequest(diff_ids=diff_ids)
        return LAYER.decode_all((await self._again.ask(FORMS, lambda: self._stub.Forms(request))).layers)

    async def release(self, lease: str, *, abandon: bool = False) -> None:
        """End a lease."""
        with rpc_errors():
            await self._stub.Release(pb.ReleaseRequest(lease=lease, abandon=abandon), wait_for_ready=True)

    def kept(self, *leases: str) -> AbstractAsyncContextManager[str]:
        """Keep leases within."""
        return kept(self._stub, *leases)

    async def get(self, image: str, *, manifests: bool = False, platform: Platform | None = None) -> ImageDetails:
        """Return one."""
        request = pb.GetRequest(image=image, manifests=manifests, platform=platform_to_proto(platform))
        return convert.IMAGE.decode(await self._again.ask(GET_IMAGE, lambda: self._stub.Get(request)))

    async def list(self, *, brief: bool = False) -> Sequence[ImageDetails]:
        """Return all, newest first."""
        found: list[ImageDetails] = []
        async with aclosing(self._list(pb.ListRequest(brief=brief))) as some:
            async for page in some:
                found += page.items
        return found

    def pages(self, *, manifests: bool = False) -> AsyncGenerator[Page[ImageDetails], None]:
        """Yield all, newest first, some at a time."""
        return self._list(pb.ListRequest(manifests=manifests))

    def _list(self, request: pb.ListRequest) -> AsyncGenerator[Page[ImageDetails], None]:
        return self._again.read(LIST_IMAGES, lambda: self._pages.pages(request, self._deadline_s))

    async def tag(self, image: str, reference: str) -> None:
        """Add a name."""
        with rpc_errors():
            await self._stub.Tag(pb.TagRequest(image=image, reference=reference))

    async def remove(
        self,
        image: str,
        *,
        force: bool = False,
        no_prune: bool = False,
        in_use: Iterable[ImageUse] = (),
        platform: Platform | None = None,
    ) -> RemovedImages:
        """Remove a name, and the image with its last one."""
        request = pb.RemoveRequest(
            image=image,
            force=force,
            no_prune=no_prune,
            in_use=map(convert.USE.encode, in_use),
            platform=platform_to_proto(platform),
        )
        with rpc_errors():
            return convert.REMOVED.decode(await whole(self._stub.Remove(request)))

    async def prune(self, images: Iterable[str], in_use: Iterable[ImageUse]) -> RemovedImages:
        """Remove many."""
        with rpc_errors():
            return convert.REMOVED.decode(await whole(self._stub.Prune(send(_prune(images, in_use)))))

    async def import_root(
        self,
        chunks: AsyncIterator[bytes],
        *,
        reference: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        platform: Platform | None = None,
    ) -> Imported:
        """Make an image of the tar of a root file system."""
        options = pb.ImportRequest.Options(
            reference=reference, message=message, changes=changes, platform=platform_to_proto(platform)
        )
        with rpc_errors():
            call = self._stub.Import(requests(pb.ImportRequest(options=options), chunks, _imported))
            return convert.IMPORTED.decode(await call)

    async def commit(self, base: str, layer: Layer | None, options: ImageCommit, reference: str = "") -> Imported:
        """Make an image of one with another layer on top."""
        request = convert.COMMIT.encode(options)
        request.base, request.reference = base, reference
        if layer is not None:
            request.layer.CopyFrom(LAYER.encode(layer))
        with rpc_errors():
            return convert.IMPORTED.decode(await self._stub.Commit(request))

    def push(
        self,
        reference: str,
        credentials: Credentials | None = None,
        platform: Platform | None = None,
        target: Descriptor | None = None,
    ) -> AsyncGenerator[PushProgress, None]:
        """Upload an image to its registry."""
        request = pb.PushRequest(
            reference=reference,
            platform=platform_to_proto(platform),
            credentials=_credentials(credentials),
            target=None if target is None else DESCRIPTOR.encode(target),
        )
        return read(self._stub.Push(request), convert.push_from_proto)

    def save(self, images: Sequence[str], platforms: Sequence[Platform] = ()) -> AsyncGenerator[bytes, None]:
        """Yield an archive of images, in pieces."""
        request = pb.SaveRequest(images=images, platforms=PLATFORM.encode_all(platforms))
        return read(self._stub.Save(request), attrgetter("chunk"))

    async def load(self, chunks: AsyncIterator[bytes], platforms: Sequence[Platform] = ()) -> Sequence[LoadedImage]:
        """Read an archive of images."""
        options = pb.LoadRequest.Options(platforms=PLATFORM.encode_all(platforms))
        with rpc_errors():
            call = self._stub.Load(requests(pb.LoadRequest(options=options), chunks, _loaded))
            return convert.LOADED.decode_all((await whole(call)).images)

    async def login(self, registry: str, credentials: Credentials) -> str:
        """Have a registry check credentials."""
        request = pb.LoginRequest(registry=registry, credentials=_credentials(credentials))
        with rpc_errors():
            return (await self._stub.Login(request)).identity_token

    async def inspect(self, reference: str, credentials: Credentials | None = None) -> RemoteImage:
        """Ask a registry what a name points to."""
        request = pb.InspectRequest(reference=reference, credentials=_credentials(credentials))
        with rpc_errors():
            return convert.REMOTE.decode(await self._stub.Inspect(request))

    async def manifest(
        self, reference: str, credentials: Credentials | None = None, *, insecure: bool = False
    ) -> RemoteManifest:
        """Read a manifest at its registry."""
        request = pb.GetManifestRequest(reference=reference, credentials=_credentials(credentials), insecure=insecure)
        with rpc_errors():
            return convert.REMOTE_MANIFEST.decode(await self._stub.GetManifest(request))

    async def put_manifest(
        self,
        reference: str,
        media_type: str,
        content: bytes,
        *,
        mount_from: str = "",
        credentials: Credentials | None = None,
        insecure: bool = False,
    ) -> Digest:
        """Give a repository a manifest."""
        request = pb.PutManifestRequest(
            reference=reference,
            media_type=media_type,
            content=content,
            mount_from=mount_from,
            credentials=_credentials(credentials),
            insecure=insecure,
        )
        with rpc_errors():
            return Digest((await self._stub.PutManifest(request)).digest)

    async def referrers(self, reference: str, credentials: Credentials | None = None) -> Sequence[Referrer]:
        """List what is about a manifest at its registry."""
        request = pb.ReferrersRequest(reference=reference, credentials=_credentials(credentials))
        with rpc_errors():
            return convert.REFERRER.decode_all((await whole(self._stub.Referrers(request))).referrers)

    async def read_remote(
        self, repository: str, descriptor: Descriptor, credentials: Credentials | None = None
    ) -> bytes:
        """Read something small at its registry."""
        request = pb.ReadRemoteRequest(
            repository=repository, descriptor=DESCRIPTOR.encode(descriptor), credentials=_credentials(credentials)
        )
        with rpc_errors():
            return (await self._stub.ReadRemote(request)).content

    async def tags(self, repository: str, credentials: Credentials | None = None) -> Sequence[str]:
        """Ask a registry for the tags of a repository."""
        request = pb.TagsRequest(repository=repository, credentials=_credentials(credentials))
        with rpc_errors():
            return tuple((await whole(self._stub.Tags(request))).tags)

    async def search(self, term: str, limit: int, credentials: Credentials | None = None) -> Sequence[SearchResult]:
        """Ask a registry for repositories."""
        request = pb.SearchRequest(term=term, limit=limit, credentials=_credentials(credentials))
        with rpc_errors():
            return convert.RESULT.decode_all((await self._stub.Search(request)).results)

    async def roots(self) -> Sequence[Root]:
        """Return who needs which layers unpacked."""
        with rpc_errors():
            answer = await whole(self._stub.Roots(pb.RootsRequest(), timeout=self._deadline_s))
        return convert.ROOT.decode_all(answer.roots)


def _credentials(credentials: Credentials | None) -> pb.Credentials | None:
    return None if credentials is None else convert.CREDENTIALS.encode(credentials)


def _page(page: pb.ListResponse) -> Page[ImageDetails]:
    return Page(convert.IMAGE.decode_all(page.images), page.ByteSize())


def _prune(images: Iterable[str], in_use: Iterable[ImageUse]) -> Iterator[pb.PruneRequest]:
    yield from pages(pb.PruneRequest, "in_use", map(convert.USE.encode, in_use))
    yield from pages(pb.PruneRequest, "images", images)


def _imported(chunk: bytes) -> pb.ImportRequest:
    return pb.ImportRequest(chunk=chunk)


def _loaded(chunk: bytes) -> pb.LoadRequest:
    return pb.LoadRequest(chunk=chunk)
