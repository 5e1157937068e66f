import pytest

from sampan.errors import InvalidArgumentError
from sampan.filter_expressions import parse_filters

LABELS = {"labels.a": "1", "labels.b.c": "two words", "digest": "sha256:00"}


def fields(path: tuple[str, ...]) -> str | None:
    return LABELS.get(".".join(path))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "digest==sha256:00",
        "digest == sha256:00",
        'digest=="sha256:00"',
        "labels.a",
        'labels."a"==1',
        'labels."b.c"=="two words"',
        'labels.b.c~="^two"',
        "labels.a!=2",
        "labels.a==1,labels.b.c",
        "labels.none!=1",
    ],
)
def test_accepted(text: str) -> None:
    assert parse_filters([text])(fields)


@pytest.mark.parametrize(
    "text", ["digest==sha256:01", "labels.none", "labels.a==1,labels.none", "labels.none~=.", "nothing"]
)
def test_not_accepted(text: str) -> None:
    assert not parse_filters([text])(fields)


def test_any_of_several_is_enough() -> None:
    assert parse_filters(["nothing", "labels.a"])(fields)
    assert not parse_filters(["nothing", "nothing"])(fields)


@pytest.mark.parametrize("text", ["==", "a=b", "a.", ".a", "a==", 'a=="b', "a~=*", "a b", "x" * 5000])
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="filter"):
        parse_filters([text])
