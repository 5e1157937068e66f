import pytest

from runtimed.network.core.check import check_request
from sampan.errors import InvalidArgumentError
from sampan.resource.network import NetworkRequest

NAME = "com.docker.network.bridge.name"


@pytest.mark.parametrize("name", ['a"b', "sp*", "a\\b", "a b", "a/b", "sixteen-letters!", ".", ".."])
def test_bridge_that_would_mean_something_else_in_rules_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid bridge name"):
        check_request(NetworkRequest("n", options={NAME: name}))


@pytest.mark.parametrize("name", ["br0", "a;b", "$x", "a'b", "ä"])
def test_bridge_may_be_called_what_the_kernel_takes(name: str) -> None:
    check_request(NetworkRequest("n", options={NAME: name}))
