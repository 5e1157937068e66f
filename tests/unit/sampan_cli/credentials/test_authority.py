"""`sampan system certs`: what it makes, for whom, and what it does not overwrite."""

import ipaddress
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from sampan_cli.app.app import app


def certs(place: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["system", "certs", "--directory", str(place), *arguments])


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_an_authority_a_server_and_clients_are_made(tmp_path: Path) -> None:
    place = tmp_path / "tls"
    done = certs(
        place, "--host", "engine.example", "--host", "10.0.0.5", "--host", "::1", "--client", "alice", "--days", "9"
    )
    assert done.exit_code == 0, done.output
    assert f'tls_ca = "{place}/ca.pem"' in done.stdout
    server, client, ca = (load(place / name) for name in ("server-cert.pem", "clients/alice/cert.pem", "ca.pem"))
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["engine.example"]
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("10.0.0.5"), ipaddress.ip_address("::1")]
    for cert, usage in ((server, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH)):
        cert.verify_directly_issued_by(ca)
        assert list(cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [usage]
        assert (cert.not_valid_after_utc - cert.not_valid_before_utc).days == 9
    assert client.subject.rfc4514_string() == "CN=alice"
    assert (place / "clients/alice/ca.pem").read_bytes() == (place / "ca.pem").read_bytes()
    files = [path for path in place.rglob("*") if path.is_file()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.rglob("*") if path.is_dir()} == {0o700}


def test_nothing_is_overwritten_and_nothing_made_beside_it(tmp_path: Path) -> None:
    certs(tmp_path, "--client", "alice")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = certs(tmp_path, "--client", "bob", "--client", "alice")
    assert (again.exit_code, "clients/alice/ca.pem is there already" in again.stderr) == (1, True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert certs(tmp_path, "--client", "bob").exit_code == 0
    load(tmp_path / "clients/bob/cert.pem").verify_directly_issued_by(load(tmp_path / "ca.pem"))


def test_revoked_certificates_stay_revoked(tmp_path: Path) -> None:
    certs(tmp_path, "--client", "alice", "--client", "bob")
    serials = set()
    for name in ("alice", "bob"):
        path = tmp_path / "clients" / name / "cert.pem"
        assert certs(tmp_path, "--revoke", str(path)).exit_code == 0
        serials.add(load(path).serial_number)
    crl = x509.load_pem_x509_crl((tmp_path / "crl.pem").read_bytes())
    assert {one.serial_number for one in crl} == serials
    assert stat.S_IMODE((tmp_path / "crl.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "arguments",
    [("--client", "../up"), ("--client", ""), ("--host", "a b"), ("--host", "-"), ("--client", "a", "--client", "a")],
)
def test_names_that_are_none_are_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert certs(tmp_path / "tls", *arguments).exit_code == 1
    assert not (tmp_path / "tls").exists()


def test_half_an_authority_is_refused(tmp_path: Path) -> None:
    certs(tmp_path, "--client", "alice")
    (tmp_path / "ca-key.pem").unlink()
    done = certs(tmp_path, "--client", "bob")
    assert (done.exit_code, "ca-key.pem is not there" in done.stderr) == (1, True)
    (tmp_path / "ca-key.pem").write_text("nonsense")
    assert "cannot be read" in certs(tmp_path, "--client", "bob").stderr
