"""A real registry: Debian's docker-registry on a free loopback port, with its storage in a directory of the test's."""

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.support.tools import eventually, free_port, need


@dataclass(frozen=True, slots=True)
class Registry:
    """A registry that runs. ``address`` is what image names begin with."""

    address: str
    storage: Path
    log: Path  # one line per request
    credentials: tuple[str, str] | None = None
    ca: Path | None = None  # who signed its certificate; None: plain HTTP

    @property
    def url(self) -> str:
        """Base of its API."""
        return f"{'https' if self.ca else 'http'}://{self.address}"

    def session(self) -> requests.Session:
        """Return an HTTP session with everything it takes to get in."""
        session = requests.Session()
        session.trust_env = False  # REQUESTS_CA_BUNDLE would win over `verify`
        session.auth = self.credentials
        session.verify = str(self.ca) if self.ca else True
        return session

    def blob_file(self, digest: str) -> Path:
        """Where the registry keeps the bytes of a blob: tests damage them there."""
        algorithm, _, value = digest.partition(":")
        return self.storage / "docker/registry/v2/blobs" / algorithm / value[:2] / value / "data"


@contextlib.contextmanager
def run_registry(
    directory: Path,
    *,
    credentials: tuple[str, str] | None = None,
    tls: bool = False,
    proxy_of: Registry | None = None,
    same_as: Registry | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Registry]:
    """Run a registry until the block ends; with ``proxy_of``, a read-only cache in front of another one.

    ``same_as`` gives it the address and the storage of another one: for a network namespace that the command
    ``prefix`` enters. Such a registry is not waited for, since its loopback is not ours.
    """
    need("docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    registry = Registry(
        same_as.address if same_as else f"127.0.0.1:{free_port()}",
        same_as.storage if same_as else directory / "storage",
        directory / "log",
        credentials,
        make_certificate(directory) if tls else None,
    )
    config = directory / "config.yml"
    config.write_text(_config(registry, directory, proxy_of))
    with registry.log.open("wb") as log:
        process = subprocess.Popen([*prefix, "docker-registry", "serve", config], stdout=log, stderr=log)
    try:
        if same_as is None:
            eventually(lambda: _answers(registry, process), "the registry answers")
        yield registry
    finally:
        process.terminate()
        process.wait(60)


def _answers(registry: Registry, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, f"docker-registry ended: {registry.log.read_text()[-2000:]}"
    try:
        return registry.session().get(f"{registry.url}/v2/", timeout=60).status_code == 200
    except requests.ConnectionError:
        return False


def _config(registry: Registry, directory: Path, proxy_of: Registry | None) -> str:
    lines = [
        "version: 0.1",
        "log: {level: info, formatter: text}",
        f"storage: {{filesystem: {{rootdirectory: {registry.storage}}}, delete: {{enabled: true}}}}",
        f"http: {{addr: '{registry.address}', secret: tests" + (_tls(directory) if registry.ca else "") + "}",
    ]
    if registry.credentials:
        lines.append(f"auth: {{htpasswd: {{realm: tests, path: {make_htpasswd(directory, registry.credentials)}}}}}")
    if proxy_of:
        login = (
            ""
            if not proxy_of.credentials
            else f", username: {proxy_of.credentials[0]}, password: {proxy_of.credentials[1]}"
        )
        lines.append(f"proxy: {{remoteurl: '{proxy_of.url}'{login}}}")
    return "\n".join(lines) + "\n"


def _tls(directory: Path) -> str:
    return f", tls: {{certificate: {directory}/server.crt, key: {directory}/server.key}}"


def make_htpasswd(directory: Path, credentials: tuple[str, str]) -> Path:
    """Make a file with one user; return it."""
    need("htpasswd")
    path = directory / "htpasswd"
    made = subprocess.run(["htpasswd", "-Bbn", *credentials], check=True, capture_output=True)
    path.write_bytes(made.stdout)
    return path


def make_certificate(directory: Path) -> Path:
    """Make a certificate authority and a certificate for 127.0.0.1 signed by it; return the authority's."""
    need("openssl")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=Sampan tests")
    openssl("req", *new_key, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=registry")
    (directory / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    signer = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial")
    openssl("x509", "-req", "-in", "server.csr", *signer, "-days", "2", "-extfile", "names", "-out", "server.crt")
    return directory / "ca.crt"
