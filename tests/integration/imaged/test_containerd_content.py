"""The Content service with its real clients: containerd's ``ctr``, and containerd itself with imaged as its store."""

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.imaged_process import Imaged, imaged, until
from tests.support.registry import run_registry
from tests.support.tools import need, need_root

CONFIG = """\
version = 2
root = "{base}/root"
state = "{base}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.content.v1.content"]
[grpc]
address = "{base}/containerd.sock"
[ttrpc]
address = "{base}/ttrpc.sock"
[proxy_plugins.sampan]
type = "content"
address = "{content}"
"""


async def ctr(socket: Path, *arguments: str, stdin: bytes = b"") -> bytes:
    """Run ``ctr`` and return what it says."""
    process = await asyncio.create_subprocess_exec(
        "ctr", "--address", str(socket), "--namespace", "tests", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(60):
        output, _ = await process.communicate(stdin)
    if process.returncode:
        raise RuntimeError(output.decode())
    return output


@contextlib.asynccontextmanager
async def containerd(base: Path, service: Imaged) -> AsyncIterator[Path]:
    """Run a containerd whose content is in imaged; yield its socket."""
    base.mkdir()
    (base / "config.toml").write_text(CONFIG.format(base=base, content=service.socket))
    process = await asyncio.create_subprocess_exec(
        "containerd", "--config", str(base / "config.toml"), "--log-level", "warn"
    )
    try:
        await until((base / "containerd.sock").exists)
        yield base / "containerd.sock"
    finally:
        process.terminate()
        await process.wait()


async def test_ctr_writes_labels_reads_and_removes_content(tmp_path: Path) -> None:
    need("ctr")
    content = os.urandom(3_000_000)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    async with imaged(tmp_path) as service:
        await ctr(service.socket, "content", "ingest", "some-ref", stdin=content)
        await ctr(service.socket, "content", "label", digest, "some=label")
        listed = (await ctr(service.socket, "content", "ls")).decode()
        assert digest in listed
        assert "some=label" in listed
        assert await ctr(service.socket, "content", "get", digest) == content
        await ctr(service.socket, "content", "rm", digest)
        with pytest.raises(RuntimeError, match="not found"):
            await ctr(service.socket, "content", "get", digest)


@pytest.mark.root
async def test_containerd_pulls_into_and_collects_from_our_store(tmp_path: Path) -> None:
    need_root()
    need("containerd", "ctr")
    layers = [
        images.layer(images.tar(images.Entry(name, os.urandom(size)))) for name, size in (("a", 9), ("b", 3_000_000))
    ]
    with run_registry(tmp_path / "registry") as registry:
        images.push(registry, "app", "1", images.Image(layers))
        name = f"{registry.address}/app:1"
        async with imaged(tmp_path) as service, containerd(tmp_path / "containerd", service) as socket:
            await ctr(socket, "images", "pull", "--plain-http", "--snapshotter", "native", name)
            assert {images.sha256(layer.blob)[7:] for layer in layers} < service.files("blobs/sha256")
            await ctr(socket, "images", "export", str(tmp_path / "exported.tar"), name)
            assert (tmp_path / "exported.tar").stat().st_size > 3_000_000
            await ctr(socket, "images", "rm", "--sync", name)
            await until(lambda: not service.files("blobs/sha256"))
