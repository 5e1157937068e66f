"""What crid says of itself."""

import grpc
import pytest

from sampan.api.cri.v1 import runtime_pb2 as pb
from sampan.api.cri.v1.runtime_pb2_grpc import RuntimeServiceStub
from sampan.version import VERSION

pytestmark = pytest.mark.root


def test_kubelet_is_told_the_version_and_that_the_runtime_is_ready(cri: grpc.Channel) -> None:
    runtime = RuntimeServiceStub(cri)
    told = runtime.Version(pb.VersionRequest(version="0.1.0"))
    assert (told.runtime_name, told.runtime_version, told.runtime_api_version) == ("sampan", VERSION, "v1")
    conditions = {each.type: each.status for each in runtime.Status(pb.StatusRequest()).status.conditions}
    assert conditions["RuntimeReady"]
