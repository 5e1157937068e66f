"""Modes of namespaces."""

import pytest

from sampan.docker.options.limits import check_limits
from sampan.docker.options.logs import check_log
from sampan.docker.options.namespaces import check_namespaces, namespace_path
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import HugepageLimit, LogConfig, Namespaces, Resources


@pytest.mark.parametrize("kind", ["network", "pid", "ipc", "uts", "user"])
def test_a_file_is_named_by_owners_alone(kind: str) -> None:
    modes = Namespaces(**{kind: "ns:/run/x"})  # type: ignore[arg-type]  # a mode
    check_namespaces(modes, "cri")
    with pytest.raises(InvalidArgumentError, match=r"invalid .* mode: ns:/run/x"):
        check_namespaces(modes)
    with pytest.raises(InvalidArgumentError, match=r"invalid .* mode: ns:run/x"):
        check_namespaces(Namespaces(**{kind: "ns:run/x"}), "cri")  # type: ignore[arg-type]


def test_a_cgroup_namespace_is_not_joined() -> None:
    with pytest.raises(InvalidArgumentError, match="invalid cgroup namespace mode"):
        check_namespaces(Namespaces(cgroup="ns:/run/x"), "cri")


def test_the_file_of_a_mode() -> None:
    assert namespace_path("ns:/run/x") == "/run/x"
    assert namespace_path("container:x") == namespace_path("") == ""


def test_kubelet_s_log_is_an_owner_s() -> None:
    config = LogConfig("cri", {"path": "/var/log/0.log"})
    check_log(config, "cri")
    with pytest.raises(InvalidArgumentError, match="no log driver named 'cri' is registered"):
        check_log(config)


def test_an_owner_s_memory_has_no_least_amount() -> None:
    check_limits(Resources(memory_bytes=1 << 20), small=True)
    with pytest.raises(InvalidArgumentError, match="Minimum memory limit allowed is 6MB"):
        check_limits(Resources(memory_bytes=1 << 20))


@pytest.mark.parametrize("size", ["", "2", "MB", "2TB", "2MB/.."])
def test_a_size_of_huge_pages_is_one_of_the_kernel_s(size: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid huge page size"):
        check_limits(Resources(hugepage_limits=(HugepageLimit(size, 1),)))


@pytest.mark.parametrize("name", ["", "memory", "../memory.high", "memory/high.x"])
def test_a_file_of_a_cgroup_is_named_as_the_kernel_s_are(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid cgroup file"):
        check_limits(Resources(unified={name: "1"}))


@pytest.mark.parametrize("mode", ["container", "container:"])
def test_a_network_of_a_container_that_is_not_named_is_refused(mode: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid network mode: invalid container format"):
        check_namespaces(Namespaces(network=mode))
