"""The audit log: what is on record, what is not, and what happens when it cannot be written."""

import errno
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from dockerapi.admission import Admission
from dockerapi.audit.sinks import DatagramSink, FileSink, make_sink
from dockerapi.audit.trail import AuditTrail
from sampan.errors import InvalidArgumentError
from tests.unit.dockerapi.support import Api, head_of, read_head, running_api


class Lines:
    """A sink that remembers, or fails."""

    def __init__(self) -> None:
        self.lines: list[Any] = []
        self.full = False

    def write(self, line: str) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.lines.append(json.loads(line))

    def reopen(self) -> None:
        pass

    def close(self) -> None:
        pass


@asynccontextmanager
async def audited(sink: Lines, *, everything: bool = False, refuses: bool = True) -> AsyncIterator[Api]:
    with TemporaryDirectory(prefix="aud") as root:
        trail = AuditTrail(sink, everything=everything, refuses=refuses)
        async with running_api(Path(root), Admission(trail)) as api:
            yield api


async def test_who_did_what_on_which_object_and_what_came_of_it() -> None:
    sink = Lines()
    async with audited(sink) as api:
        container = api.fake.runtime.create("cat")
        await api.post(f"/v1.44/containers/{container}/start")
        await api.get("/containers/json")
        await api.post("/containers/nobody/start")
        await api.post("/volumes/create", json={"Name": "v"})
        await api.post("/nothing")
    started, missing, made, unknown = sink.lines
    assert started["who"]["uid"] == os.getuid()
    assert started["who"]["pid"] == os.getpid()
    assert (started["operation"], started["object"], started["outcome"]) == ("container.start", container, "done")
    assert started["socket"] == "docker.sock"
    assert started["time"].endswith("Z")
    assert (missing["outcome"], missing["status"], missing["object"]) == ("failed", 404, "nobody")
    assert "No such container" in missing["error"]
    assert (made["operation"], made["object"], made["status"]) == ("volume.create", "v", 201)
    assert (unknown["operation"], unknown["status"]) == ("unknown", 404)


async def test_object_that_is_named_in_the_query_is_on_record_as_one() -> None:
    sink = Lines()
    async with audited(sink) as api:
        await api.post("/images/create?fromImage=busybox&tag=1")
        await api.get("/images/get?names=one&names=two")
        await api.post("/build?t=app&t=https://me:hunter2@there/app")
        await api.post("/commit?container=nobody", json={})
    assert {(line["operation"], line["object"]) for line in sink.lines} == {
        ("image.pull", "busybox"),
        ("image.save-all", "one, two"),
        ("build.run", "app, https://me:***@there/app"),
        ("image.commit", "nobody"),
    }


async def test_what_only_looks_is_on_record_when_that_is_asked_for() -> None:
    sink = Lines()
    async with audited(sink, everything=True) as api:
        await api.get("/containers/json")
    assert [line["operation"] for line in sink.lines] == ["container.list"]


async def test_what_has_no_end_of_its_own_is_on_record_as_it_begins() -> None:
    sink = Lines()
    async with audited(sink) as api:
        container = api.fake.runtime.create("cat")
        async with api.raw() as (reader, writer):
            writer.write(head_of("POST", f"/containers/{container}/attach?stream=1&stdin=1"))
            await read_head(reader)
            assert [(line["operation"], line["outcome"]) for line in sink.lines] == [("container.attach", "begun")]
    assert sink.lines[-1]["outcome"] in ("done", "failed")
    assert "duration_ms" in sink.lines[-1]


async def test_a_client_that_leaves_when_it_has_what_it_wants_has_not_failed() -> None:
    sink = Lines()
    async with audited(sink, everything=True) as api, api.raw() as (reader, writer):
        writer.write(head_of("GET", "/events", upgrade=False))
        await read_head(reader)
    assert [line["outcome"] for line in sink.lines] == ["begun", "done"]
    assert sink.lines[-1]["status"] == 499


async def test_values_of_variables_and_secrets_are_nowhere() -> None:
    sink = Lines()
    async with audited(sink) as api:
        body = {
            "Image": "busybox", "Env": ["PASSWORD=hunter2", "PLAIN"], "Cmd": ["sh", "-c", "curl -u x token=hunter2"],
            "HostConfig": {"LogConfig": {"Type": "splunk", "Config": {"splunk-token": "hunter2"}}, "Privileged": True},
            "Labels": {"url": "https://me:hunter2@there/"},
            "Healthcheck": {"Test": ["CMD-SHELL", "mysqladmin ping --password hunter2 || exit 1"]},
        }  # fmt: skip
        await api.post("/containers/create", json=body)
        container = api.fake.runtime.create("cat")
        await api.post(f"/containers/{container}/exec", json={"Cmd": ["env"], "Env": ["A=hunter2"]})
        await api.post("/auth", json={"username": "me", "password": "hunter2", "identitytoken": "hunter2"})
        await api.post("/build?buildargs=%7B%22A%22%3A%22hunter2%22%7D", headers={"X-Registry-Auth": "hunter2"})
    text = json.dumps(sink.lines)
    assert "hunter2" not in text
    request = sink.lines[0]["request"]
    assert request["Env"] == ["PASSWORD=***", "PLAIN"]
    assert request["HostConfig"]["Privileged"] is True
    assert sink.lines[1]["request"]["Cmd"] == ["env"]


async def test_a_full_disk_refuses_what_it_cannot_put_on_record_and_nothing_is_lost() -> None:
    sink = Lines()
    async with audited(sink) as api:
        one, two = api.fake.runtime.create("cat"), api.fake.runtime.create("cat")
        sink.full = True
        assert (await api.post(f"/containers/{one}/start")).status == 204  # nobody knew yet
        refused = await api.post(f"/containers/{two}/start")
        assert refused.status == 503
        assert refused.message == "the audit log cannot be written: no space left on device: nothing is done without it"
        assert (await api.get("/containers/json")).status == 200  # looks, and is not written down
        sink.full = False
        assert (await api.post(f"/containers/{two}/start")).status == 204
    assert [(line["object"], line["status"]) for line in sink.lines] == [(one, 204), (two, 503), (two, 204)]


async def test_a_full_disk_refuses_nothing_if_that_is_the_policy(capsys: pytest.CaptureFixture[str]) -> None:
    sink = Lines()
    async with audited(sink, refuses=False) as api:
        one, two = api.fake.runtime.create("cat"), api.fake.runtime.create("cat")
        sink.full = True
        assert (await api.post(f"/containers/{one}/start")).status == 204
        assert (await api.post(f"/containers/{one}/stop")).status == 204
        sink.full = False
        assert (await api.post(f"/containers/{two}/start")).status == 204
    assert [line["object"] for line in sink.lines] == [two]
    said = capsys.readouterr().out
    assert said.count("audit log not written") == 1
    assert "audit log written again" in said


def test_a_file_is_rotated_and_closed_to_others(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "audit.log", 100, 2)
    for number in range(10):
        sink.write(f"{number:040}")
    sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.log", "audit.log.1", "audit.log.2"]
    kept = [
        line for name in ("audit.log.2", "audit.log.1", "audit.log") for line in (tmp_path / name).read_text().split()
    ]
    assert [int(line) for line in kept] == list(range(4, 10))
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())


def test_half_a_line_is_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FileSink(tmp_path / "audit.log", 1 << 20, 2)
    sink.write("whole")
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:3]))
    with pytest.raises(OSError, match="No space left"):
        sink.write("another")
    monkeypatch.undo()
    sink.write("third")
    assert (tmp_path / "audit.log").read_text() == "whole\nthird\n"


def test_a_file_that_somebody_has_moved_is_opened_anew(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "audit.log", 1 << 20, 2)
    sink.write("one")
    (tmp_path / "audit.log").rename(tmp_path / "moved")
    sink.reopen()
    sink.write("two")
    assert (tmp_path / "audit.log").read_text() == "two\n"


def test_syslog_and_journald_get_datagrams_and_may_start_anew(tmp_path: Path) -> None:
    for journal, expected in ((False, b"<85>sampan-audit["), (True, b'MESSAGE={"a":1}\nPRIORITY=5\n')):
        path = tmp_path / f"s{journal}"
        sink = DatagramSink(path, journal=journal)
        with pytest.raises(OSError, match="No such file"):
            sink.write("nobody")
        for _ in range(2):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
                receiver.bind(str(path))
                sink.write('{"a":1}')
                assert receiver.recv(1000).startswith(expected)
            path.unlink()
        sink.close()


@pytest.mark.parametrize(("kind", "path", "size"), [("fil", "/a", 1 << 20), ("file", "a", 1 << 20), ("file", "/a", 10)])
def test_a_sink_that_is_none_is_refused(kind: str, path: str, size: int) -> None:
    with pytest.raises(InvalidArgumentError, match="audit"):
        make_sink(kind, Path(path), size, 1)
