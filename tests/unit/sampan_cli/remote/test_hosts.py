"""Hosts as they are written, and what TLS is spoken with there."""

from pathlib import Path

import pytest

from sampan.errors import InvalidArgumentError
from sampan_cli.remote.hosts import SshHost, TcpHost, TlsFlags, TlsMaterial, UnixHost, parse_host

TLS = TlsMaterial("ca", "cert", "key")


@pytest.mark.parametrize(
    ("text", "tls", "host"),
    [
        ("unix:///run/sampan/docker.sock", None, UnixHost(Path("/run/sampan/docker.sock"))),
        ("tcp://engine.example", None, TcpHost("engine.example", 2375)),
        ("tcp://engine.example", TLS, TcpHost("engine.example", 2376, TLS)),
        ("tcp://10.0.0.5:7777/", TLS, TcpHost("10.0.0.5", 7777, TLS)),
        ("tcp://[fd00::1]:2376", TLS, TcpHost("fd00::1", 2376, TLS)),
        ("ssh://there", None, SshHost("there")),
        ("ssh://me@there:2222", None, SshHost("there", "me", 2222)),
        ("ssh://there/run/x/docker.sock", None, SshHost("there", socket="/run/x/docker.sock")),
    ],
)
def test_host_is_read(text: str, tls: TlsMaterial | None, host: object) -> None:
    assert parse_host(text, tls) == host


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "http://x", "npipe:////./pipe/docker_engine", "unix://", "unix://relative", "tcp://", "tcp://:2376",
        "tcp://x:99999", "tcp://x:port", "tcp://x/path", "tcp://me@x", "tcp://[::1", "tcp://x?y", "ssh://",
        "ssh://-oProxyCommand=x", "ssh://-l@x", "ssh://me:secret@x", "ssh://x/a b", "ssh://x/$(id)", "ssh://a;b",
    ],
)  # fmt: skip
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        parse_host(text)


def test_ssh_runs_dial_stdio_there() -> None:
    command = parse_host("ssh://me@there:2222/run/x/docker.sock")
    assert isinstance(command, SshHost)
    *options, separator, host, program, flag, value, group, name = command.command
    assert options == ["ssh", "-o", "ConnectTimeout=30", "-T", "-l", "me", "-p", "2222"]
    assert (separator, host, program) == ("--", "there", "sampan")
    assert (flag, value, group, name) == ("--host", "unix:///run/x/docker.sock", "system", "dial-stdio")


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_text(name)
    return tmp_path


def test_nothing_said_is_no_tls(certs: Path) -> None:
    assert TlsFlags().material({}, certs) is None
    assert TlsFlags().material({"DOCKER_CERT_PATH": str(certs)}, certs) is None


def test_verifying_takes_the_files_of_the_configuration_or_of_the_environment(certs: Path, tmp_path: Path) -> None:
    wanted = TlsMaterial(str(certs / "ca.pem"), str(certs / "cert.pem"), str(certs / "key.pem"), verify=True)
    assert TlsFlags(verify=True).material({}, certs) == wanted
    assert TlsFlags().material({"DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(certs)}, tmp_path / "x") == wanted


def test_tls_alone_believes_whoever_answers(certs: Path) -> None:
    for flags, environ in (
        (TlsFlags(tls=True), {}),
        (TlsFlags(verify=False), {"DOCKER_TLS_VERIFY": "1"}),
        (TlsFlags(), {"DOCKER_TLS": "1"}),
    ):
        found = flags.material(environ, certs)
        assert found is not None
        assert not found.verify
        assert found.ca == ""
        assert found.cert == str(certs / "cert.pem")


def test_file_that_is_named_has_to_be_there(certs: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="--tlscert /nowhere: no such file"):
        TlsFlags(tls=True, cert="/nowhere").material({}, certs)
    (certs / "key.pem").unlink()
    with pytest.raises(InvalidArgumentError, match="a certificate takes its key"):
        TlsFlags(tls=True).material({}, certs)
    (certs / "ca.pem").unlink()
    with pytest.raises(InvalidArgumentError, match=r"--tlscacert .*/ca.pem: no such file"):
        TlsFlags(verify=True).material({}, certs)


def test_file_without_tls_is_refused(certs: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="--tlscacert is given, and TLS is not asked for"):
        TlsFlags(ca=str(certs / "ca.pem")).material({}, certs)
