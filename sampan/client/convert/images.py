"""Images, and their way from and to registries."""

from typing import Final

from sampan.api.containerd.types import types_pb2
from sampan.api.image.v1 import images_pb2 as pb
from sampan.client.convert.codec import Codec
from sampan.client.convert.disk import HOLDER
from sampan.client.convert.oci import DESCRIPTOR, LAYER, PLATFORM
from sampan.disk import Root
from sampan.oci.image_config import HealthCheck, History, RunConfig
from sampan.resource import image as nouns
from sampan.resource import transfer

CREDENTIALS: Final = Codec(nouns.Credentials, pb.Credentials)
CONFIG: Final = Codec(RunConfig, pb.ImageConfig, nested=(Codec(HealthCheck, pb.HealthCheck),))
IMAGE: Final = Codec(
    nouns.ImageDetails,
    pb.Image,
    nested=(
        DESCRIPTOR,
        PLATFORM,
        CONFIG,
        LAYER,
        Codec(History, pb.History),
        Codec(
            nouns.ImageManifest,
            pb.ImageManifest,
            nested=(Codec(nouns.AnnotatedDescriptor, types_pb2.Descriptor), PLATFORM),
        ),
    ),
)
NAMED: Final = Codec(nouns.NamedImage, pb.CreateResponse, nested=(IMAGE,))
IMPORTED: Final = Codec(nouns.Imported, pb.ImportResponse, nested=(DESCRIPTOR, LAYER))
LOADED: Final = Codec(nouns.LoadedImage, pb.LoadedImage, nested=(DESCRIPTOR, LAYER, PLATFORM))
CHANGE: Final = Codec(nouns.ImageChange, pb.RemoveResponse.Change)
REMOVED: Final = Codec(nouns.RemovedImages, pb.RemoveResponse, nested=(CHANGE,))
USE: Final = Codec(nouns.ImageUse, pb.ImageUse)
REMOTE: Final = Codec(nouns.RemoteImage, pb.InspectResponse, nested=(DESCRIPTOR, PLATFORM))
REMOTE_MANIFEST: Final = Codec(nouns.RemoteManifest, pb.RemoteManifest, nested=(DESCRIPTOR,))
REFERRER: Final = Codec(nouns.Referrer, pb.Referrer, nested=(Codec(nouns.AnnotatedDescriptor, types_pb2.Descriptor),))
RESULT: Final = Codec(nouns.SearchResult, pb.SearchResponse.Result)
ROOT: Final = Codec(Root, pb.RootsResponse.Root, nested=(HOLDER,))
COMMIT: Final = Codec(nouns.ImageCommit, pb.CommitRequest, nested=(CONFIG,), ignored=("base", "layer", "reference"))

_FETCH_RESOLVED: Final = Codec(transfer.FetchResolved, pb.FetchProgress.Resolved, nested=(DESCRIPTOR, LAYER))
_FETCH_STEP: Final = Codec(transfer.FetchStep, pb.FetchProgress.Layer)
_FETCHED: Final = Codec(transfer.Fetched, pb.FetchProgress.Fetched, nested=(DESCRIPTOR,))
_PUSH_RESOLVED: Final = Codec(transfer.PushResolved, pb.PushProgress.Resolved, nested=(LAYER,))
_PUSH_STEP: Final = Codec(transfer.PushStep, pb.PushProgress.Layer)
_PUSHED: Final = Codec(transfer.Pushed, pb.PushProgress.Pushed, nested=(DESCRIPTOR,))


def fetch_to_proto(step: transfer.FetchProgress) -> pb.FetchProgress:
    """Encode a step of a fetch."""
    match step:
        case transfer.FetchResolved():
            return pb.FetchProgress(resolved=_FETCH_RESOLVED.encode(step))
        case transfer.FetchStep():
            return pb.FetchProgress(layer=_FETCH_STEP.encode(step))
        case transfer.Fetched():
            return pb.FetchProgress(fetched=_FETCHED.encode(step))


def fetch_from_proto(message: pb.FetchProgress) -> transfer.FetchProgress:
    """Decode a step of a fetch."""
    match message.WhichOneof("step"):
        case "resolved":
            return _FETCH_RESOLVED.decode(message.resolved)
        case "layer":
            return _FETCH_STEP.decode(message.layer)
        case _:
            return _FETCHED.decode(message.fetched)


def push_to_proto(step: transfer.PushProgress) -> pb.PushProgress:
    """Encode a step of a push."""
    match step:
        case transfer.PushResolved():
            return pb.PushProgress(resolved=_PUSH_RESOLVED.encode(step))
        case transfer.PushStep():
            return pb.PushProgress(layer=_PUSH_STEP.encode(step))
        case transfer.Pushed():
            return pb.PushProgress(pushed=_PUSHED.encode(step))


def push_from_proto(message: pb.PushProgress) -> transfer.PushProgress:
    """Decode a step of a push."""
    match message.WhichOneof("step"):
        case "resolved":
            return _PUSH_RESOLVED.decode(message.resolved)
        case "layer":
            return _PUSH_STEP.decode(message.layer)
        case _:
            return _PUSHED.decode(message.pushed)
