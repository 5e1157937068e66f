"""Certificates that are right, and that are not, for servers on loopback."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.tools import need


@dataclass(frozen=True)
class Authority:
    """Signs; ``ca`` is its own certificate."""

    directory: Path

    @property
    def ca(self) -> Path:
        return self.directory / "ca.crt"

    def server(self, names: str = "IP:127.0.0.1", *, not_after: str = "", signed: bool = True) -> ssl.SSLContext:
        """Return what a server with a certificate for ``names`` needs; ``not_after`` is ``YYYYMMDDHHMMSSZ``."""
        place = self.directory
        (place / "extensions").write_text(f"subjectAltName={names}\n")
        self._openssl("req", *_NEW_KEY, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=registry")
        if not signed:
            own = ("-x509", "-days", "2", "-subj", "/CN=registry", "-addext", f"subjectAltName={names}")
            self._openssl("req", "-key", "server.key", *own, "-out", "server.crt")
        elif not_after:
            self._openssl(
                "ca", "-batch", "-config", "ca.conf", "-in", "server.csr", "-out", "server.crt", "-notext",
                "-startdate", "20200101000000Z", "-enddate", not_after, "-extfile", "extensions",
            )  # fmt: skip
        else:
            signer = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
            self._openssl("x509", "-req", "-in", "server.csr", *signer, "-extfile", "extensions", "-out", "server.crt")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(place / "server.crt", place / "server.key")
        return context

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.directory, check=True, capture_output=True)


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")

_CA_CONFIG = """\
[ca]
default_ca = tests
[tests]
database = index.txt
new_certs_dir = .
certificate = ca.crt
private_key = ca.key
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
"""


def make_authority(directory: Path) -> Authority:
    """Make a new one in ``directory``."""
    need("openssl")
    directory.mkdir()
    (directory / "index.txt").touch()
    (directory / "ca.conf").write_text(_CA_CONFIG)
    authority = Authority(directory)
    authority._openssl(
        "req", "-x509", *_NEW_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=CA"
    )
    return authority
