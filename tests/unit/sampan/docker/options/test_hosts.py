import pytest

from sampan.docker.options.hosts import build_hosts, parse_extra_host
from sampan.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("db:10.0.0.9", ("db", "10.0.0.9")),
        ("db=10.0.0.9", ("db", "10.0.0.9")),
        ("six:fd00::1", ("six", "fd00::1")),
        ("six=[fd00::1]", ("six", "fd00::1")),
        ("up:host-gateway", ("up", "host-gateway")),
    ],
)
def test_extra_host_is_read_as_docker_reads_it(entry: str, expected: tuple[str, str]) -> None:
    assert parse_extra_host(entry) == expected


@pytest.mark.parametrize("entry", ["db", "db:", ":10.0.0.9", "db:ten"])
def test_extra_host_that_is_none_is_refused(entry: str) -> None:
    with pytest.raises(InvalidArgumentError, match="add-host"):
        parse_extra_host(entry)


def test_a_build_is_told_of_all_hosts_in_one_text() -> None:
    assert build_hosts(["db:10.0.0.9", "six=[fd00::1]", "up:host-gateway"]) == "db=10.0.0.9,six=fd00::1,up=host-gateway"
    assert build_hosts([]) == ""
    with pytest.raises(InvalidArgumentError, match="add-host"):
        build_hosts(["db:10.0.0.9", "x=10.0.0.1,y=10.0.0.2"])
