import random

import pytest

from runtimed.containers.names import check_name, make_up_name
from sampan.errors import InvalidArgumentError


@pytest.mark.parametrize("name", ["ab", "a.b-c_d", "0x", "/with_slash"])
def test_allowed_names_lose_their_slash(name: str) -> None:
    assert check_name(name) == name.removeprefix("/")


@pytest.mark.parametrize("name", ["a", "-a", ".ab", "a b", "é1", "a/b", "//ab", ""])
def test_other_names_are_refused_in_dockers_words(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"only \[a-zA-Z0-9\]\[a-zA-Z0-9_.-\] are allowed"):
        check_name(name)


def test_made_up_names_are_allowed_and_never_taken() -> None:
    taken: set[str] = set()
    for _ in range(500):
        name = make_up_name(taken, random.Random(1))  # always the same choices: it has to evade
        assert check_name(name) not in taken
        taken.add(name)
