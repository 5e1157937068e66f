from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan_cli.options.variables import environment, labels, pairs


def test_flags_win_over_files_and_a_bare_name_takes_its_value_from_outside(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\n\n  A=file\nB=with spaces = and signs\r\nHOME\nMISSING\n")
    given = environment(["A=flag", "EMPTY=", "UNSET"], [str(file)], {"HOME": "/root"})
    assert given == ["A=flag", "B=with spaces = and signs", "HOME=/root", "EMPTY="]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("=x", "no variable name on line '=x'"),
        ("A B=x", "variable 'A B' contains whitespaces"),
        ("A =x", "variable 'A ' contains whitespaces"),
    ],
)
def test_bad_line_in_an_env_file_is_shown(tmp_path: Path, line: str, words: str) -> None:
    file = tmp_path / "env"
    file.write_text(f"{line}\n")
    with pytest.raises(InvalidArgumentError, match=words):
        environment([], [str(file)], {})


def test_missing_env_file_is_named() -> None:
    with pytest.raises(InvalidArgumentError, match="open /nowhere/env: no such file or directory"):
        environment([], ["/nowhere/env"], {})


def test_variable_without_a_name_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="invalid environment variable: =x"):
        environment(["=x"], [], {})


def test_label_without_a_value_is_empty() -> None:
    assert labels(["a=b=c", "bare"]) == {"a": "b=c", "bare": ""}


def test_pair_that_needs_a_value_says_so() -> None:
    with pytest.raises(InvalidArgumentError, match="invalid sysctl 'a': expected name=value"):
        pairs(["a"], "sysctl", need_value=True)
