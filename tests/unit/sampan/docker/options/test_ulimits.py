import pytest

from sampan.docker.options.ulimits import check_ulimits, parse_ulimit
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import Ulimit


def test_one_number_is_both_limits() -> None:
    assert parse_ulimit("nofile=1024") == Ulimit(name="nofile", soft=1024, hard=1024)
    assert parse_ulimit("core=0:-1") == Ulimit(name="core", soft=0, hard=-1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nofile", "invalid ulimit argument: nofile"),
        ("nosuch=1", "invalid ulimit type: nosuch"),
        ("nofile=a", "invalid ulimit argument: nofile=a"),
        ("nofile=1_000", "invalid ulimit argument: nofile=1_000"),
        ("nofile=1:", "invalid ulimit argument: nofile=1:"),
        ("nofile=-5", "invalid ulimit nofile: -5 is negative"),
        ("nofile=5:3", "soft limit must be less than or equal to hard limit: 5 > 3"),
    ],
)
def test_bad_ulimit_is_refused(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words):
        check_ulimits([parse_ulimit(text)])
