"""Errors that are told again in other words."""

from pathlib import Path

import pytest

from sampan.errors import DatabaseDamagedError, NotFoundError, SampanError, reworded
from sampan.wire.status import TABLE


@pytest.mark.parametrize("kind", [kind for kind in TABLE if kind is not DatabaseDamagedError])
def test_an_error_in_other_words_is_of_the_same_kind(kind: type[SampanError]) -> None:
    made = reworded(kind("no such thing"), "create web: no such thing")
    assert (type(made), str(made), made.args) == (kind, "create web: no such thing", ("create web: no such thing",))


def test_the_first_one_says_what_it_said() -> None:
    first = NotFoundError("no such thing")
    assert str(reworded(first, "other words")) == "other words"
    assert str(first) == "no such thing"


def test_what_an_error_carries_goes_along() -> None:
    made = reworded(DatabaseDamagedError(Path("/x/metadata.db"), "it is short"), "pull web: a database is damaged")
    assert (str(made), made.path, made.problem) == (
        "pull web: a database is damaged",
        Path("/x/metadata.db"),
        "it is short",
    )
