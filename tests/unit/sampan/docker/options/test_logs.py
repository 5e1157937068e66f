import pytest

from sampan.docker.options.logs import check_log, max_log_bytes
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import LogConfig


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LogConfig(), 0),
        (LogConfig("json-file", {"max-size": "10m"}), 10_000_000),
        (LogConfig("local", {"max-size": "10KB", "max-file": "3"}), 30_000),
        (LogConfig("json-file", {"max-size": "-1"}), 0),
    ],
)
def test_the_drivers_options_say_how_much_is_kept(config: LogConfig, expected: int) -> None:
    check_log(config)
    assert max_log_bytes(config.options) == expected


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LogConfig("syslog"), "logger: no log driver named 'syslog' is registered"),
        (LogConfig("json-file", {"colour": "red"}), "unknown log opt 'colour' for json-file log driver"),
        (LogConfig("", {"max-size": "big"}), "invalid value for max-size: big"),
        (LogConfig("", {"max-file": "0"}), "invalid value for max-file: 0"),
    ],
)
def test_other_options_are_refused_in_dockers_words(config: LogConfig, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        check_log(config)
