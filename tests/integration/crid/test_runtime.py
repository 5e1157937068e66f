"""What crid says of itself."""

import json

import pytest

from sampan.api.cri.v1 import runtime_pb2 as pb
from sampan.version import VERSION
from tests.support.pods import Crid

pytestmark = pytest.mark.root


def test_kubelet_is_told_the_version_and_that_runtime_and_network_are_ready(cri: Crid) -> None:
    told = cri.runtime.Version(pb.VersionRequest(version="0.1.0"))
    assert (told.runtime_name, told.runtime_version, told.runtime_api_version) == ("sampan", VERSION, "v1")
    status = cri.runtime.Status(pb.StatusRequest())
    assert {each.type: each.status for each in status.status.conditions} == {"RuntimeReady": True, "NetworkReady": True}
    assert "" in {handler.name for handler in status.runtime_handlers}
    assert status.features.supplemental_groups_policy
    assert not status.info


def test_a_verbose_status_has_the_network_s_configuration_as_json(cri: Crid) -> None:
    info = cri.runtime.Status(pb.StatusRequest(verbose=True)).info
    assert json.loads(info["cni"])["name"] == "tests"
    assert json.loads(info["cgroupDriver"]) == "cgroupfs"


def test_kubelet_is_told_who_makes_cgroups(cri: Crid) -> None:
    assert cri.runtime.RuntimeConfig(pb.RuntimeConfigRequest()).linux.cgroup_driver == pb.CGROUPFS
