"""``sampan registry serve``: its command line becomes the service's."""

import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sampan.layout import Layout
from sampan_cli.app.app import app
from sampan_cli.app.session import Session
from sampan_cli.commands.registry.serve import ServeOptions

LAYOUT = Layout(Path("/d"), Path("/r"))
NOTHING: dict[str, Any] = {
    "listen": None,
    "htpasswd": None,
    "tls_cert": None,
    "tls_key": None,
    "read_only": False,
    "names": (),
    "expose": (),
    "max_blob_bytes": None,
    "log_level": None,
}


def flags(**options: object) -> list[str]:
    arguments = ServeOptions(**NOTHING | options).arguments(LAYOUT)
    begin = [sys.executable, "-P", "-m", "registryd", "--log-format", "text", "--data-root", "/d", "--run-root", "/r"]
    assert arguments[: len(begin)] == begin
    return arguments[len(begin) :]


def test_what_is_not_said_is_left_to_the_configuration() -> None:
    assert flags() == []


def test_what_is_said_is_passed_on() -> None:
    assert flags(listen=":5000", read_only=True, names=("a", "b:1"), max_blob_bytes=5) == [
        "--listen", ":5000", "--read-only", "True", "--names", "a,b:1", "--max-blob-bytes", "5",
    ]  # fmt: skip


def test_no_service_is_started_without_an_engine() -> None:
    with tempfile.TemporaryDirectory() as root:  # a short path: sockets' have 107 bytes
        layout = Layout(Path(root) / "d", Path(root) / "r")
        done = CliRunner().invoke(app, ["registry", "serve"], obj=Session(layout))
    assert done.exit_code == 1
    assert "Start it with: sampan up --detach" in done.stderr


@pytest.mark.parametrize(("flag", "value"), [("--max-blob-size", "much"), ("--htpasswd", "/nonexistent")])
def test_wrong_value_is_named(flag: str, value: str) -> None:
    done = CliRunner().invoke(app, ["registry", "serve", flag, value], obj=Session(LAYOUT))
    assert done.exit_code == 125
    assert value in done.stderr


def test_service_has_every_flag_of_the_command() -> None:
    from dataclasses import fields

    from registryd.main import RegistryConfig

    assert NOTHING.keys() <= {field.name for field in fields(RegistryConfig)}
