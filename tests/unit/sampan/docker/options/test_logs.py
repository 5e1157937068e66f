from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from sampan.docker.options.log_receivers import Patience, patience
from sampan.docker.options.logs import KeptFiles, buffer_bytes, check_log, details_of, kept_files, render_tag, tag_of
from sampan.errors import InvalidArgumentError
from sampan.resource.container import Container
from sampan.resource.container_spec import ContainerSpec, LogConfig, Process


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (LogConfig(), KeptFiles(0, 1, compress=False)),
        (LogConfig("json-file", {"max-size": "10m"}), KeptFiles(10_000_000, 1, compress=False)),
        (
            LogConfig("json-file", {"max-size": "1k", "max-file": "2", "compress": "true"}),
            KeptFiles(1000, 2, compress=True),
        ),
        (LogConfig("json-file", {"max-size": "-1"}), KeptFiles(0, 1, compress=False)),
        (LogConfig("local"), KeptFiles(20 << 20, 5, compress=True)),
        (LogConfig("local", {"max-size": "10k", "max-file": "1"}), KeptFiles(10 << 10, 1, compress=False)),
        (LogConfig("syslog", {"cache-max-size": "1m"}), KeptFiles(1 << 20, 5, compress=True)),
    ],
)
def test_the_drivers_options_say_how_much_is_kept(config: LogConfig, expected: KeptFiles) -> None:
    check_log(config)
    assert kept_files(config) == expected


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("syslog", {"syslog-address": "tcp+tls://logs.example:6514", "syslog-format": "rfc5424micro", "tag": "x"}),
        ("syslog", {"syslog-address": "udp://[::1]", "syslog-facility": "local3", "mode": "non-blocking"}),
        ("gelf", {"gelf-address": "udp://graylog:12201", "gelf-compression-type": "none"}),
        ("gelf", {"gelf-address": "tcp://graylog:12201", "gelf-tcp-max-reconnect": "3"}),
        (
            "fluentd",
            {"fluentd-address": "unix:///run/fluent.sock", "fluentd-async": "true", "fluentd-retry-wait": "1s"},
        ),
        ("journald", {"labels": "a,b", "env-regex": "^A"}),
        ("none", {"anything": "goes"}),
    ],
)
def test_drivers_that_send_take_their_own_options(driver: str, options: Mapping[str, str]) -> None:
    check_log(LogConfig(driver, options))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LogConfig("splunk"), "logger: no log driver named 'splunk' is registered"),
        (LogConfig("json-file", {"colour": "red"}), "unknown log opt 'colour' for json-file log driver"),
        (LogConfig("local", {"tag": "x"}), "unknown log opt 'tag' for log driver local"),
        (LogConfig("gelf", {"gelf-address": "udp://h:1", "x": ""}), 'unknown log opt "x" for gelf log driver'),
        (LogConfig("", {"max-size": "big"}), "invalid value for max-size: big"),
        (LogConfig("", {"max-file": "0"}), "invalid value for max-file: 0"),
        (LogConfig("", {"compress": "true"}), "compress cannot be true when max-file is less than 2"),
        (LogConfig("", {"mode": "lazy"}), "logger: logging mode not supported: lazy"),
        (LogConfig("", {"max-buffer-size": "1m"}), "max-buffer-size option is only supported with 'mode=non-blocking'"),
        (LogConfig("", {"mode": "non-blocking", "max-buffer-size": "x"}), "error parsing option max-buffer-size"),
        (LogConfig("", {"tag": "{{.Nonsense}}"}), "no such field of a container: .Nonsense"),
        (LogConfig("", {"labels-regex": "("}), "invalid value for labels-regex"),
        (LogConfig("syslog", {"syslog-address": "host"}), "syslog-address should be in form proto://address, got host"),
        (LogConfig("syslog", {"syslog-facility": "x"}), "invalid syslog facility"),
        (LogConfig("syslog", {"syslog-format": "x"}), "Invalid syslog format: x"),
        (LogConfig("gelf"), "gelf-address is a required parameter"),
        (LogConfig("gelf", {"gelf-address": "h:1"}), "gelf-address should be in form proto://address, got h:1"),
        (
            LogConfig("gelf", {"gelf-address": "tcp://h:1", "gelf-compression-type": "gzip"}),
            "compression is only supported on UDP",
        ),
        (LogConfig("fluentd", {"fluentd-address": "http://h"}), "unsupported scheme: 'http'"),
        (LogConfig("fluentd", {"fluentd-async": "maybe"}), "invalid value for fluentd-async"),
        (LogConfig("fluentd", {"fluentd-retry-wait": "1"}), "invalid value for fluentd-retry-wait"),
        (LogConfig("fluentd", {"fluentd-buffer-limit": "1m"}), "fluentd-buffer-limit is not supported by this engine"),
        (
            LogConfig("fluentd", {"fluentd-async-reconnect-interval": "1m"}),
            "fluentd-async-reconnect-interval is not supported by this engine",
        ),
    ],
)
def test_other_options_are_refused_in_dockers_words(config: LogConfig, message: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        check_log(config)
    assert message in str(refused.value)


def test_a_buffer_is_a_megabyte_unless_said_otherwise() -> None:
    assert buffer_bytes({}) == buffer_bytes({"mode": "blocking"}) == 0
    assert buffer_bytes({"mode": "non-blocking"}) == 1_000_000
    assert buffer_bytes({"mode": "non-blocking", "max-buffer-size": "4m"}) == 4 << 20


def test_tags_are_made_of_a_containers_fields() -> None:
    log = LogConfig("json-file", {"tag": "{{.Name}}/{{ .ID }}/{{.ImageName}}", "labels": "tier", "env-regex": "^A"})
    process = Process(env=("A=1", "B=2"))
    spec = ContainerSpec(name="web", image="nginx:1", labels={"tier": "x y"}, process=process, log=log)
    container = Container("0123456789abcdef" * 4, spec, datetime(2026, 1, 1, tzinfo=UTC))
    assert tag_of(container) == "web/0123456789ab/nginx:1"
    assert details_of(container) == b"A=1,tag=web%2F0123456789ab%2Fnginx%3A1,tier=x+y "
    assert render_tag("plain", {}) == "plain"


@pytest.mark.parametrize(
    ("driver", "options", "expected"),
    [
        ("syslog", {}, Patience()),
        ("gelf", {"gelf-tcp-max-reconnect": "3", "gelf-tcp-reconnect-delay": "2"}, Patience(2, 2, 3)),
        ("fluentd", {"fluentd-max-retries": "7", "fluentd-retry-wait": "500ms"}, Patience(0.5, 5, 7)),
        ("fluentd", {"fluentd-retry-wait": "1m"}, Patience(60, 60, 0)),
    ],
)
def test_receivers_are_waited_for_as_the_options_say(
    driver: str, options: Mapping[str, str], expected: Patience
) -> None:
    assert patience(driver, options) == expected
