"""Root file systems for test images: the host's busybox, and Debian, made once per machine and kept."""

import contextlib
import fcntl
import functools
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.support.images import Image, Layer, layer, sha256
from tests.support.tools import need, need_root, search_path

ROOT: Final = Path(__file__).parent.parent.parent
BUSYBOX_CONFIG: Final = {"Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin"]}

# What is made from Debian is big and takes half a minute, so it outlives the test run. Rename when the recipe changes.
_DEBIAN: Final = "debian-2"

# struct vfs_cap_data of linux/capability.h, revision 2: effective flag, then permitted and inheritable, twice 32 bits.
_NET_RAW: Final = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)


@functools.cache
def busybox_tar() -> bytes:
    """Return a root file system of a static busybox, as an uncompressed tar."""
    need("busybox")
    return subprocess.run([ROOT / "tools/busybox-root"], check=True, capture_output=True).stdout


@functools.cache
def busybox_image() -> Image:
    """Return the small image that most tests run."""
    return Image([layer(busybox_tar())], BUSYBOX_CONFIG)


def debian_image() -> Image:
    """Return an image of the host's Debian or Ubuntu release: one gzip layer of some 90 MB, about 6,800 entries.

    It holds what makes unpacking hard: set-user-ID programs, hard links, a file with a capability, a link to a
    directory on every path (/bin, /lib).
    """
    tree, blob = _debian_files()
    return Image([Layer(blob, sha256(tree))], {"Cmd": ["bash"], "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]})


def debian_tar() -> Path:
    """Return the uncompressed tar of that image's layer."""
    tree, _ = _debian_files()
    return tree


def cache_directory() -> Path:
    """Where big things are kept between runs."""
    if os.geteuid() == 0:
        return Path("/var/cache/sampan-tests")
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "sampan-tests"


def _debian_files() -> tuple[Path, Path]:
    tree = cache_directory() / f"{_DEBIAN}.tar"
    blob = cache_directory() / f"{_DEBIAN}.tar.gz"
    cache_directory().mkdir(parents=True, exist_ok=True)
    with _locked(cache_directory() / "lock"):
        if not (tree.exists() and blob.exists()):
            _make_debian(tree, blob)
    return tree, blob


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_debian(tree: Path, blob: Path) -> None:
    need_root()
    need("debootstrap", "tar", "gzip")
    suite, site = _release()
    environment = os.environ | {"PATH": search_path(), "LC_ALL": "C"}
    with tempfile.TemporaryDirectory(dir=cache_directory(), prefix="making-") as directory:
        root = Path(directory) / "root"
        log = Path(directory) / "log"
        with log.open("wb") as output:
            made = subprocess.run(
                ["debootstrap", "--variant=minbase", suite, root, site], stdout=output, stderr=output, env=environment
            )
        assert made.returncode == 0, f"debootstrap failed: {log.read_text()[-2000:]}"
        program = root / "usr/local/bin/raw"
        program.write_bytes(b"#!/bin/sh\n")
        program.chmod(0o755)
        os.setxattr(program, "security.capability", _NET_RAW)
        kept = ("--xattrs", "--xattrs-include=security.capability", "--numeric-owner", "--sort=name", "--format=pax")
        unpacked, packed = Path(directory) / "tree", Path(directory) / "blob"
        subprocess.run(["tar", *kept, "--create", "--file", unpacked, "--directory", root, "."], check=True)
        with packed.open("wb") as output:
            subprocess.run(["gzip", "--no-name", "--stdout", unpacked], check=True, stdout=output)
        unpacked.rename(tree)
        packed.rename(blob)


def _release() -> tuple[str, str]:
    """Return the host's release and where its packages come from, so that nothing but that has to be reachable."""
    fields = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    suite = fields["VERSION_CODENAME"].strip('"')
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(SITE)", "Created-By: Packages"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return suite, next(site for release, site in map(str.split, listed.splitlines()) if release == suite)
