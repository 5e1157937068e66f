"""Runtime handlers."""

import pytest

from crid.handlers import Handlers
from sampan.errors import InvalidArgumentError
from sampan.resource.stats import HostInfo, OciRuntimeInfo

INFO = HostInfo(
    "crun",
    tuple(OciRuntimeInfo(name, f"/usr/bin/{name}", "1", usable=name != "youki") for name in ("crun", "runc", "youki")),
)


def test_every_runtime_that_works_here_is_a_handler_of_its_name_and_the_default_has_none() -> None:
    assert Handlers.of((), INFO).runtimes == {"": "", "crun": "crun", "runc": "runc"}


def test_further_names_are_configured() -> None:
    found = Handlers.of(("old=runc", "crun=runc"), INFO).runtimes
    assert found == {"": "", "crun": "runc", "runc": "runc", "old": "runc"}


@pytest.mark.parametrize("text", ["old", "=runc", "old=kata", "old=youki"])
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="runtime_handlers"):
        Handlers.of((text,), INFO)


@pytest.mark.parametrize(("release", "can"), [("5.18.3", False), ("5.19-rc1", True), ("6.18.44", True)])
def test_pods_have_users_of_their_own_since_linux_5_19(release: str, can: bool) -> None:
    assert Handlers.of((), INFO, release).user_namespaces is can


@pytest.mark.parametrize(
    ("release", "can"), [("5.10.0-1", False), ("5.12", True), ("6.1.0-9-amd64", True), ("4", False)]
)
def test_read_only_mounts_are_recursive_since_linux_5_12(release: str, can: bool) -> None:
    assert Handlers.of((), INFO, release).recursive_read_only is can
