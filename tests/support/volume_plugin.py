"""A volume plugin as Docker's protocol wants one, in a thread: it keeps directories, and can be made to misbehave."""

import contextlib
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


class VolumePlugin:
    """What it has, what it was asked, and how it misbehaves: by method, ``hang`` or the bytes that it answers with."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.volumes: dict[str, dict[str, str]] = {}  # options by name
        self.mounts: list[tuple[str, str]] = []  # name and ID, as often as it was told
        self.calls: list[str] = []
        self.bad: dict[str, bytes | str] = {}
        self.released = threading.Event()

    def answer(self, method: str, sent: dict[str, Any]) -> dict[str, object]:
        """Do what is asked."""
        self.calls.append(method)
        name = str(sent.get("Name", ""))
        place = str(self.root / name)
        if method == "Plugin.Activate":
            return {"Implements": ["VolumeDriver"]}
        if method == "VolumeDriver.Capabilities":
            return {"Capabilities": {"Scope": "global"}}
        if method == "VolumeDriver.List":
            return {"Volumes": [{"Name": each, "Mountpoint": str(self.root / each)} for each in sorted(self.volumes)]}
        if method == "VolumeDriver.Create":
            if sent["Opts"].get("fail"):
                return {"Err": "no room for that"}
            self.volumes[name] = sent["Opts"]
            Path(place).mkdir(parents=True, exist_ok=True)
            return {}
        if name not in self.volumes:
            return {"Err": f"{name} is unknown"}
        if method == "VolumeDriver.Remove":
            del self.volumes[name]
        elif method == "VolumeDriver.Mount":
            self.mounts.append((name, str(sent["ID"])))
            return {"Mountpoint": place}
        elif method == "VolumeDriver.Unmount":
            self.mounts.remove((name, str(sent["ID"])))
        elif method in ("VolumeDriver.Get", "VolumeDriver.Path"):
            return {"Volume": {"Name": name, "Mountpoint": place}, "Mountpoint": place}
        return {}


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    plugin: VolumePlugin

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, _ = super().get_request()
        return connection, ("plugin", 0)  # what the handler's base class wants to log


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        plugin, method = self.server.plugin, self.path.strip("/")
        sent = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        bad = plugin.bad.get(method)
        if bad == "hang":
            plugin.calls.append(method)
            plugin.released.wait()
            return
        answer = plugin.answer(method, sent) if bad is None else {}
        body = json.dumps(answer).encode() if bad is None else bytes(bad)  # type: ignore[arg-type]
        self.send_response(500 if "Err" in answer else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def volume_plugin(sockets: Path, name: str, root: Path) -> Iterator[VolumePlugin]:
    """Serve a plugin at ``<sockets>/<name>.sock``."""
    sockets.mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True, exist_ok=True)
    path = sockets / f"{name}.sock"
    with _Server(str(path), _Handler) as server:
        server.plugin = plugin = VolumePlugin(root)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield plugin
        finally:
            plugin.released.set()
            server.shutdown()
            thread.join()
            path.unlink()
