import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimed.streams.detach import DetachScanner, parse_detach_keys
from sampan.errors import InvalidArgumentError
from sampan.resource.streams import NO_DETACH_KEYS


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("", b"\x10\x11"),
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("a", b"a"),
        ("ctrl-@", b"\0"),
        ("ctrl-X,y,ctrl-\\", b"\x18y\x1c"),
        ("ctrl-[,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1d\x1e\x1f"),
    ],
)
def test_keys_are_the_bytes_a_terminal_sends(keys: str, expected: bytes) -> None:
    assert parse_detach_keys(keys) == expected


@pytest.mark.parametrize("keys", ["ctrl-", "ctrl-1", "xy", "a,", "ctrl-p,,q", "é"])
def test_what_is_no_key_is_refused(keys: str) -> None:
    with pytest.raises(InvalidArgumentError, match="invalid detach keys"):
        parse_detach_keys(keys)


def test_the_keys_detach_and_nothing_after_them_is_passed_on() -> None:
    assert DetachScanner(b"\x10\x11").feed(b"ls\n\x10\x11rm -rf /") == (b"ls\n", True)


def test_the_beginning_of_the_keys_is_held_back_until_it_is_something_else() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"a\x10") == (b"a", False)
    assert scanner.feed(b"b") == (b"\x10b", False)


def test_keys_that_come_one_by_one_detach() -> None:
    scanner = DetachScanner(b"\x10\x11")
    assert scanner.feed(b"\x10") == (b"", False)
    assert scanner.feed(b"\x11") == (b"", True)


def test_a_repeated_first_key_is_passed_on_once() -> None:
    assert DetachScanner(b"\x10\x11").feed(b"\x10\x10\x11") == (b"\x10", True)


@given(st.binary(max_size=50).filter(lambda data: b"\x10" not in data))
def test_other_input_passes_unchanged(data: bytes) -> None:
    assert DetachScanner(b"\x10\x11").feed(data) == (data, False)


def test_without_keys_every_key_is_the_processs() -> None:
    scanner = DetachScanner(parse_detach_keys(NO_DETACH_KEYS))
    assert scanner.feed(b"\x10\x11\x10") == (b"\x10\x11\x10", False)
