from pathlib import Path

import pytest

from runtimed.conmon.conmon import LogFile
from runtimed.logs.options import check_log, log_file
from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import LogConfig

PATH = Path("/log")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LogConfig(), LogFile(PATH)),
        (LogConfig("none"), LogFile(None)),
        (LogConfig("json-file", {"max-size": "10m"}), LogFile(PATH, 10_000_000)),
        (LogConfig("local", {"max-size": "10KB", "max-file": "3"}), LogFile(PATH, 30_000)),
        (LogConfig("json-file", {"max-size": "-1"}), LogFile(PATH)),
    ],
)
def test_the_drivers_options_bound_the_file(config: LogConfig, expected: LogFile) -> None:
    check_log(config)
    assert log_file(config, PATH) == expected


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
