"""The images that critest runs, made here and pushed to a loopback registry, and how an engine finds them there.

critest names them as they are called where Kubernetes keeps them; an engine with ``mirrors`` gets them from the
loopback registry. nginx is Debian's, with the libraries of this machine: specs look for its processes and its pid file.
"""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.support.images import Entry, Image, Layer, directory, layer, push, symlink, tar
from tests.support.registry import Registry
from tests.support.tools import need
from tests.support.trees import busybox_tar, cache_directory

_STAGING: Final = "k8s-staging-cri-tools"
_HOSTS: Final = ("gcr.io", "registry.k8s.io", "k8s.gcr.io")

BUSYBOX: Final = "e2e-test-images/busybox"
NGINX: Final = "e2e-test-images/nginx"
TAGS: Final = {BUSYBOX: "1.29-2", NGINX: "1.14-2"}

_PATH: Final = {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["sh"]}

# As the upstream busybox image has them.
_PASSWD: Final = (
    "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nbin:x:2:2:bin:/bin:/bin/false\n"
    "www-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"
)
_GROUP: Final = "root:x:0:\ndaemon:x:1:\nbin:x:2:\nwww-data:x:33:\nusers:x:100:\nnobody:x:65534:\n"


def push_images(registry: Registry) -> None:
    """Push all of them."""
    base = [_busybox(), _files({"etc/passwd": _PASSWD, "etc/group": _GROUP}), _programs("ipcs", "pgrep"), _shell()]
    push(registry, BUSYBOX, TAGS[BUSYBOX], _image(base))
    push(registry, "pause", "3.9", _image([*base, _files({"pause": "1"})]))
    for name in ("test-image-1", "test-image-2", "test-image-3", "test-image-latest"):
        push(registry, f"{_STAGING}/{name}", "latest", _image([*base, _files({name: name})]))
    for tag in ("1", "2", "3"):
        push(registry, f"{_STAGING}/test-image-tags", tag, _image([*base, _files({"same-image": "1"})]))
    for tag in ("test", "all"):
        push(registry, f"{_STAGING}/test-image-tag", tag, _image([*base, _files({tag: tag})]))
    for name, user in (
        ("uid", "1002"),
        ("username", "www-data"),
        ("uid-group", "1003:1004"),
        ("username-group", "www-data:1004"),
    ):
        image = _image([*base, _files({f"user-{name}": user})], User=user)
        push(registry, f"{_STAGING}/test-image-user-{name}", "latest", image)
    grouped = {
        "etc/passwd": _PASSWD + "default-user:x:1000:1000::/home/default-user:/bin/sh\n",
        "etc/group": _GROUP + "default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n",
    }
    push(registry, f"{_STAGING}/test-image-predefined-group", "latest", _image([*base, _files(grouped)], User="1000"))
    push(registry, "e2e-test-images/nonewprivs", "1.3", _image([*base, *_set_user_id()], Cmd=["sh", "-c", _SAY_USER]))
    site = _files({"www/index.html": "It works!\n"})
    serve = ["sh", "-c", "echo httpd serves; exec httpd -f -p 80 -h /www"]
    push(registry, "e2e-test-images/httpd", "2.4.39-4", _image([*base, site], Cmd=serve))
    places = [directory(path) for path in ("run", "var/lib/nginx", "var/log/nginx")]
    server = [*base, layer(tar(*places, symlink("var/run", "/run"))), _nginx()]
    push(registry, NGINX, TAGS[NGINX], _image([*server, _site(80)], **_SERVE))
    push(registry, f"{_STAGING}/hostnet-nginx-amd64", "latest", _image([*server, _site(12003)], **_SERVE))


def mirrors(registry: Registry) -> str:
    """Return what imaged is configured with to find them."""
    return "\n".join(
        f'[[registries]]\nhost = "{host}"\n[[registries.mirrors]]\nurl = "{registry.url}"\n' for host in _HOSTS
    )


def test_images_file(registry: Registry) -> str:
    """Return the text of what critest's ``--test-images-file`` names."""
    return (
        f"defaultTestContainerImage: {registry.address}/{BUSYBOX}:{TAGS[BUSYBOX]}\n"
        f"webServerTestImage: {registry.address}/{NGINX}:{TAGS[NGINX]}\n"
    )


_SERVE: Final = {"Cmd": ["nginx", "-g", "daemon off;"], "StopSignal": "SIGQUIT"}


def _image(layers: list[Layer], **config: Any) -> Image:
    return Image(layers, _PATH | config)


def _files(texts: dict[str, str]) -> Layer:
    return layer(tar(*(Entry(path, text.encode()) for path, text in texts.items())))


def _busybox() -> Layer:
    """Return busybox with its commands as hard links, as the upstream image has them: one may be masked by itself."""
    buffer = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(busybox_tar())) as source,
        tarfile.open(fileobj=buffer, mode="w") as target,
    ):
        members = source.getmembers()
        for member in sorted(members, key=lambda each: each.issym()):
            if member.issym() and member.linkname == "busybox":
                member.type, member.linkname = tarfile.LNKTYPE, "./bin/busybox"
            target.addfile(member, source.extractfile(member) if member.isreg() else None)
    return layer(buffer.getvalue())


_SAY_USER: Final = "echo Effective uid: $(/nnp/id -u)"


def _set_user_id() -> list[Layer]:
    """Return a program with the set-user-ID bit that tells who it runs as, which busybox would not use."""
    program = Path(shutil.which("id") or "id")
    copy = layer(tar(Entry("nnp/id", program.read_bytes(), mode=0o4755)))
    return [_tree({}, program), copy]


def _site(port: int) -> Layer:
    server = f"server {{ listen {port}; location / {{ root /usr/share/nginx/html; index index.html; }} }}\n"
    return _files({"etc/nginx/sites-enabled/default": server})


def _nginx() -> Layer:
    """Return Debian's nginx as a layer."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for package in _packages("nginx", "nginx-common"):
            subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
        return _tree(
            {part: root / part for part in ("etc/nginx", "usr/sbin", "usr/share/nginx")}, root / "usr/sbin/nginx"
        )


def _shell() -> Layer:
    """Return a shell that runs commands as files: the static busybox's knows its own also if they are masked."""
    with tempfile.TemporaryDirectory() as directory:
        for package in _packages("busybox"):
            subprocess.run(["dpkg-deb", "--extract", package, directory], check=True)
        path = Path(directory, "bin/busybox")
        return _tree({"bin/sh": path}, path)


def _programs(*names: str) -> Layer:
    """Return programs of this machine that busybox does not have as it is built here."""
    need(*names)
    paths = [Path(shutil.which(name) or name) for name in names]
    return _tree({f"usr/bin/{path.name}": path for path in paths}, *paths)


def _tree(parts: Mapping[str, Path], *programs: Path) -> Layer:
    """Return a layer of files, and of the libraries that ``programs`` load."""
    need("ldd")
    listed = subprocess.run(["ldd", *programs], check=True, capture_output=True, text=True).stdout
    libraries = {
        word for line in listed.splitlines() for word in line.split() if word.startswith("/") and word[-1] != ":"
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, path in parts.items():
            archive.add(path, name)
        for library in sorted(libraries):
            archive.add(os.path.realpath(library), library.lstrip("/"))
    return layer(buffer.getvalue())


def _packages(*names: str) -> list[Path]:
    need("apt-get", "dpkg-deb")
    kept = cache_directory() / "packages"
    kept.mkdir(parents=True, exist_ok=True)
    if missing := [name for name in names if not list(kept.glob(f"{name}_*.deb"))]:
        subprocess.run(["apt-get", "download", "-q", *missing], cwd=kept, check=True, capture_output=True)
    return [next(kept.glob(f"{name}_*.deb")) for name in names]
