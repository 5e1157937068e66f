import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan_cli.warm.request import (
    HIGHEST_DESCRIPTOR,
    LENGTH_BYTES,
    MAX_REQUEST_BYTES,
    Request,
    code_of,
    is_obeyed_at_start,
)

WORDS = st.lists(st.binary(max_size=20).map(lambda word: word.replace(b"\0", b"")), max_size=5)
ENCODINGS = [b"utf-8", b"strict", b"utf-8", b"strict", b"utf-8", b"backslashreplace"]


def body(request: Request) -> bytes:
    encoded = request.encode()
    assert int.from_bytes(encoded[:LENGTH_BYTES], "big") == len(encoded) - LENGTH_BYTES
    return encoded[LENGTH_BYTES:]


@given(WORDS, WORDS, st.lists(st.integers(3, HIGHEST_DESCRIPTOR), max_size=3))
def test_what_is_sent_arrives(arguments: list[bytes], environment: list[bytes], descriptors: list[int]) -> None:
    sent = Request(b"code", ENCODINGS, descriptors, arguments, environment)
    came = Request.decode(body(sent))
    assert (came.code, came.encodings, came.descriptors) == (b"code", ENCODINGS, descriptors)
    assert (came.arguments, came.environment) == (arguments, environment)


@given(st.binary(max_size=200))
def test_nonsense_is_refused_or_read_and_nothing_else(sent: bytes) -> None:
    try:
        Request.decode(sent)
    except ValueError:
        return


@pytest.mark.parametrize("numbers", [[0], [2], [HIGHEST_DESCRIPTOR + 1], [-1]])
def test_the_standard_descriptors_are_not_sent_twice_and_none_is_out_of_reach(numbers: list[int]) -> None:
    with pytest.raises(ValueError, match="descriptors"):
        Request.decode(body(Request(b"", ENCODINGS, numbers, [], [])))


def test_more_arguments_than_words_are_refused() -> None:
    sent = b"\0".join([b"code", *ENCODINGS, b"", b"2", b"ps"])
    with pytest.raises(ValueError, match="2 arguments"):
        Request.decode(sent)


def test_what_execve_takes_fits() -> None:
    assert MAX_REQUEST_BYTES >= 4 * (2 << 20)


def test_code_is_that_of_an_interpreter_its_version_and_a_place() -> None:
    assert code_of("/a/bin/python3", 1, "utf-8", "/b") == code_of("/a/bin/python3.11", 1, "utf-8", "/b")
    other = {
        code_of("/c/bin/python3", 1, "utf-8", "/b"),
        code_of("/a/bin/python3", 2, "utf-8", "/b"),
        code_of("/a/bin/python3", 1, "ascii", "/b"),
        code_of("/a/bin/python3", 1, "utf-8", "/c"),
    }
    assert len(other | {code_of("/a/bin/python3", 1, "utf-8", "/b")}) == 5


def test_variables_for_an_interpreter_that_begins() -> None:
    told = (b"PATH", b"PYTHONPATH", b"LD_PRELOAD", b"PYTHONUNBUFFERED", b"LC_ALL", b"MALLOC_PERTURB_")
    assert [name for name in told if is_obeyed_at_start(name)] == [b"PYTHONPATH", b"LD_PRELOAD", b"MALLOC_PERTURB_"]
