"""What can be written in ``listen``, and what is refused."""

import grp
import os
import socket
from pathlib import Path

import pytest

from dockerapi.listen.addresses import InheritedAddress, TcpAddress, TlsFiles, UnixAddress, parse, parse_all
from dockerapi.listen.certificates import load
from dockerapi.listen.sockets import choose, inherited, open_tcp, open_unix
from dockerapi.main import ApiConfig, SocketConfig
from sampan.errors import ConflictError, InvalidArgumentError, NotFoundError
from tests.support.tls import make_certs
from tests.unit.dockerapi.listen.conftest import files_of

TLS = TlsFiles("c", "k", "a")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///run/a.sock", UnixAddress(Path("/run/a.sock"))),
        ("tcp://0.0.0.0:2376", TcpAddress("0.0.0.0", 2376)),
        ("tcp://127.0.0.1", TcpAddress("127.0.0.1", 2376)),
        ("tcp://:99", TcpAddress("", 99)),
        ("tcp://[::1]:99", TcpAddress("::1", 99)),
        ("fd://", InheritedAddress("")),
        ("fd://api", InheritedAddress("api")),
    ],
)
def test_addresses(text: str, address: object) -> None:
    assert parse(text, tls=True) == address


@pytest.mark.parametrize(
    "text",
    ["", "0.0.0.0:1", "http://x", "unix://rel", "unix://", "tcp://::1:99", "tcp://a:0", "tcp://a:70000", "tcp://a:x",
     "tcp://a:1/path", "tcp://user@a:1", "tcp://[::1", "unix:///" + "x" * 120, "tcp://a:١"],
)  # fmt: skip
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="listen"):
        parse(text, tls=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "", "10.0.0.5", "::", "engine.example"])
def test_plain_tcp_off_loopback_is_refused_unless_it_is_said_in_so_many_words(host: str) -> None:
    text = f"tcp://{f'[{host}]' if ':' in host else host}:2375"
    with pytest.raises(InvalidArgumentError, match="allow_unauthenticated_tcp = true"):
        parse_all([text], TlsFiles(), allow_unauthenticated=False)
    with pytest.raises(InvalidArgumentError, match="TLS without client certificates"):
        parse_all([text], TlsFiles("c", "k", verify=False), allow_unauthenticated=False)
    assert parse_all([text], TlsFiles(), allow_unauthenticated=True)
    assert parse_all([text], TLS, allow_unauthenticated=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "[::1]", "localhost"])
def test_plain_tcp_on_loopback_is_served(host: str) -> None:
    assert parse_all([f"tcp://{host}:2375"], TlsFiles(), allow_unauthenticated=False)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (TlsFiles(cert="c"), "tls_key is not"),
        (TlsFiles(key="k"), "tls_cert is not"),
        (TlsFiles("c", "k"), "tls_ca is not set"),
        (TlsFiles("c", "k", "a", verify=False), "tls_ca is set, but no client is asked"),
        (TlsFiles(ca="a"), "no client is asked"),
    ],
)
def test_tls_files_that_are_no_use_are_refused(files: TlsFiles, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said):
        parse_all([], files, allow_unauthenticated=False)


def test_the_same_address_twice_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="twice"):
        parse_all(["tcp://localhost:1", "tcp://localhost:1"], TlsFiles(), allow_unauthenticated=False)


@pytest.mark.parametrize("which", ["server-cert.pem", "server-key.pem", "ca.pem", "crl.pem"])
@pytest.mark.parametrize("how", ["missing", "empty", "half", "directory"])
def test_a_bad_file_is_named(tmp_path: Path, which: str, how: str) -> None:
    certs = make_certs(tmp_path / "certs")
    path = certs.directory / which
    text = path.read_text()
    path.unlink()
    if how == "directory":
        path.mkdir()
    elif how != "missing":
        path.write_text("" if how == "empty" else text[: len(text) // 2])
    with pytest.raises(InvalidArgumentError, match=which):
        load(files_of(certs))


async def test_a_socket_that_somebody_answers_at_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ConflictError, match="another program answers"):
            await open_unix(UnixAddress(path), "", lambda: pytest.fail("nobody comes"))
    opened = await open_unix(UnixAddress(path), "", lambda: pytest.fail("nobody comes"))  # nobody answers any more
    assert path.stat().st_mode & 0o777 == 0o660
    opened.close()
    assert not path.exists()


async def test_a_file_or_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConflictError, match="no socket"):
        await open_unix(UnixAddress(tmp_path / "file"), "", lambda: pytest.fail("nobody comes"))
    with pytest.raises(NotFoundError, match="no directory"):
        await open_unix(UnixAddress(tmp_path / "no" / "a"), "", lambda: pytest.fail("nobody comes"))


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConflictError, match=rf"tcp://127.0.0.1:{port}.*address already in use"):
            await open_tcp(
                TcpAddress("127.0.0.1", port), TlsFiles(), lambda: pytest.fail("nobody"), allow_unauthenticated=False
            )


def test_no_socket_of_systemd_s_is_said_in_dockerd_s_words() -> None:
    assert inherited({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == []
    assert inherited({"LISTEN_PID": str(os.getpid())}) == []
    with pytest.raises(NotFoundError, match="no sockets found via socket activation"):
        choose(InheritedAddress(""), [])


def test_a_group_that_there_is_not_is_named() -> None:
    def config(group: str) -> ApiConfig:
        return ApiConfig(sockets=(SocketConfig(listen=("unix:///run/x.sock",), group=group, read_only=True),))

    with pytest.raises(InvalidArgumentError, match="sockets: there is no group 'monitorng'"):
        config("monitorng").wanted()
    (wanted,) = config(grp.getgrgid(0).gr_name).wanted()
    assert wanted.group == grp.getgrgid(0).gr_name
    assert [each.group for each in config("").wanted()] == ["sampan"]
