import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import RemoteError
from sampan.oci.config_document import parse_config, parse_time, render_config
from sampan.oci.digest import Digest
from sampan.oci.image_config import ConfigFile, HealthCheck
from sampan.oci.platform import Platform

MINIMAL: dict[str, Any] = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}


def parse(document: object) -> ConfigFile:
    return parse_config(json.dumps(document).encode(), "config")


def test_everything_a_config_says_is_read() -> None:
    digest = str(Digest.of(b"layer"))
    config = parse(
        {
            "architecture": "arm64", "os": "linux", "variant": "v8", "os.version": "1", "author": "a",
            "created": "2024-02-29T12:00:00.123456789+02:00", "docker_version": "20", "comment": "c",
            "rootfs": {"type": "layers", "diff_ids": [digest]},
            "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "sh", "comment": "c", "empty_layer": True}],
            "config": {
                "User": "u", "Env": ["A=b"], "Entrypoint": ["/e"], "Cmd": ["c"], "WorkingDir": "/w",
                "Labels": {"k": "v"}, "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "StopSignal": "SIGINT",
                "Healthcheck": {"Test": ["CMD", "x"], "Interval": 10**9, "Retries": 3}, "Shell": ["/bin/bash"],
                "OnBuild": ["RUN x"], "ArgsEscaped": True,
            },
        }
    )  # fmt: skip
    assert config.platform == Platform("linux", "arm64", "v8")
    assert config.diff_ids == (digest,)
    assert config.created_ns == 1_709_200_800_123_456_789
    assert config.history[0].empty_layer
    assert config.run.health_check == HealthCheck(("CMD", "x"), interval_ns=10**9, retries=3)
    assert config.run.exposed_ports == ("80/tcp",)
    assert config.run.args_escaped
    assert parse_config(render_config(config), "again") == ConfigFile(
        **{name: getattr(config, name) for name in ConfigFile.__slots__} | {"docker_version": ""}
    )


def test_nulls_are_empty() -> None:
    nothing = dict.fromkeys(["Env", "Cmd", "Labels", "Volumes", "ExposedPorts", "Healthcheck", "User", "OnBuild"])
    config = parse(MINIMAL | {"config": nothing, "history": None, "created": None})
    assert config.run.env == ()
    assert config.run.labels == {}
    assert config.run.health_check is None
    assert config.created_ns is None


def test_lone_text_is_a_list_of_one() -> None:
    assert parse(MINIMAL | {"config": {"Entrypoint": "/run"}}).run.entrypoint == ("/run",)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"architecture": None}, "has no architecture"),
        ({"rootfs": {"type": "windows-layers"}}, "rootfs is of type"),
        ({"rootfs": {"type": "layers", "diff_ids": ["sha256:xyz"]}}, "diff_ids: invalid digest"),
        ({"rootfs": []}, "rootfs: is a list"),
        ({"config": {"Env": {"A": "b"}}}, "Env is a dict, expected a list"),
        ({"config": {"Env": [7]}}, "Env holds something else than text"),
        ({"config": {"User": 7}}, "User is a int, expected text"),
        ({"config": {"Labels": {"a": 7}}}, "Labels holds something else than text"),
        ({"config": {"Healthcheck": {"Retries": 2**40}}}, "Retries is"),
        ({"config": {"Healthcheck": {"Retries": True}}}, "Retries is a bool"),
        ({"config": {"Env": ["A=b"] * 10_001}}, "Env has 10001 items"),
        ({"history": [7]}, r"history\[0\]: is a int"),
    ],
)
def test_what_would_mislead_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RemoteError, match=complaint):
        parse(MINIMAL | changes)


@pytest.mark.parametrize("data", [b"", b"[]", b"7", b"{" * 10_000, b"\xff"])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteError):
        parse_config(data, "config")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("1970-01-01T00:00:00.5Z", 5 * 10**8),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59Z", -(10**9)),
        ("0001-01-01T00:00:00Z", None),
        ("2024-13-01T00:00:00Z", None),
        ("2024-02-30T00:00:00Z", None),
        ("yesterday", None),
        ("", None),
        ("9999-12-31T23:59:59.999999999999Z", 253402300799 * 10**9 + 999_999_999),
    ],
)
def test_times_never_refuse_an_image(text: str, expected: int | None) -> None:
    assert parse_time(text) == expected


def test_lone_surrogates_become_text_that_can_travel() -> None:
    config = parse_config(b'{"architecture": "amd64", "author": "\\ud800x", "rootfs": {}}', "config")
    config.author.encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ["User", "Env", "Cmd", "Labels", "ExposedPorts", "Healthcheck", "ArgsEscaped", "Shell"]


@given(st.dictionaries(st.sampled_from(NAMES), JSON), JSON, JSON)
def test_nonsense_is_an_error_of_the_registrys_and_nothing_else(
    run: dict[str, Any], history: Any, created: Any
) -> None:
    with contextlib.suppress(RemoteError):
        parse(MINIMAL | {"config": run, "history": history, "created": created})
