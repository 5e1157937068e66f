"""``sampan cri serve``: its command line becomes the service's."""

import sys
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from crid.main import CriConfig
from sampan.layout import Layout
from sampan_cli.app.app import app
from sampan_cli.app.session import Session
from sampan_cli.commands.cri.serve import ServeOptions

LAYOUT = Layout(Path("/d"), Path("/r"))
NOTHING: dict[str, Any] = {
    field.name: () if field.name in ("cni_bin_dirs", "runtime_handlers") else None for field in fields(ServeOptions)
}


def flags(**options: object) -> list[str]:
    arguments = ServeOptions(**NOTHING | options).arguments(LAYOUT)
    begin = [sys.executable, "-P", "-m", "crid", "--log-format", "text", "--data-root", "/d", "--run-root", "/r"]
    assert arguments[: len(begin)] == begin
    return arguments[len(begin) :]


def test_what_is_not_said_is_left_to_the_configuration() -> None:
    assert flags() == []


def test_what_is_said_is_passed_on() -> None:
    assert flags(cni_conf_dir="/c", runtime_handlers=("a=runc", "b=crun"), stream_listen=":1") == [
        "--cni-conf-dir", "/c", "--runtime-handlers", "a=runc,b=crun", "--stream-listen", ":1",
    ]  # fmt: skip


def test_no_service_is_started_without_an_engine() -> None:
    with tempfile.TemporaryDirectory() as root:  # a short path: sockets' have 107 bytes
        layout = Layout(Path(root) / "d", Path(root) / "r")
        done = CliRunner().invoke(app, ["cri", "serve"], obj=Session(layout))
    assert done.exit_code == 1
    assert "Start it with: sampan up --detach" in done.stderr


def test_wrong_value_is_named() -> None:
    done = CliRunner().invoke(app, ["cri", "serve", "--stream-tls-cert", "/nonexistent"], obj=Session(LAYOUT))
    assert done.exit_code == 125
    assert "/nonexistent" in done.stderr


@pytest.mark.parametrize("name", NOTHING)
def test_service_has_every_flag_of_the_command(name: str) -> None:
    assert name in {field.name for field in fields(CriConfig)}
