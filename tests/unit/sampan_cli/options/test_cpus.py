import pytest

from sampan.errors import InvalidArgumentError
from sampan_cli.options.cpus import nano_cpus


def test_cpus_are_exact() -> None:
    assert nano_cpus("1.5") == 1_500_000_000
    assert nano_cpus("0.000000001") == 1


@pytest.mark.parametrize("text", ["x", "-1", "nan", "inf", "0.0000000001"])
def test_bad_cpus_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        nano_cpus(text)
