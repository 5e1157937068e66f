from pathlib import Path

import pytest

from imaged.registry.endpoints import Endpoints, MirrorConfig, RegistryConfig, is_loopback
from sampan.errors import InvalidArgumentError
from sampan.resource.image import ANONYMOUS, Credentials

ALICE = Credentials("alice", "sesame")


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000"])
def test_loopback_may_speak_plain_http_and_is_asked_for_tls_first(host: str) -> None:
    (endpoint,) = Endpoints().of(host)
    assert is_loopback(host)
    assert endpoint.urls == (f"https://{host}", f"http://{host}")
    assert not endpoint.tls.verify


@pytest.mark.parametrize("host", ["registry.example", "10.0.0.1:5000", "localhost.example:80", "128.0.0.1"])
def test_any_other_host_must_speak_verified_tls(host: str) -> None:
    (endpoint,) = Endpoints().of(host)
    assert endpoint.urls == (f"https://{host}",)
    assert endpoint.tls.verify


def test_registries_at_addresses_of_a_network_are_insecure_unless_their_certificate_is_there(tmp_path: Path) -> None:
    (tmp_path / "10.9.0.2:5000").mkdir()
    (tmp_path / "10.9.0.2:5000/ca.crt").touch()
    endpoints = Endpoints(certs_dirs=[tmp_path], insecure_networks=("10.9.0.0/16", "fd00::/8"))
    for host, insecure in (
        ("10.9.0.1:5000", True), ("10.8.0.1", False), ("[fd00::1]:5000", True), ("reg.example", False),
        ("10.9.0.2:5000", False),
    ):  # fmt: skip
        (endpoint,) = endpoints.of(host)
        assert (len(endpoint.urls) == 2, endpoint.tls.verify) == (insecure, not insecure), host
    for text in ("10.9.0.1/16", "lan", ""):
        with pytest.raises(InvalidArgumentError, match="insecure_networks: "):
            Endpoints(insecure_networks=(text,))


def test_insecure_registry_may_speak_anything() -> None:
    (endpoint,) = Endpoints([RegistryConfig("reg.example", insecure=True)]).of("reg.example")
    assert endpoint.urls == ("https://reg.example", "http://reg.example")
    assert not endpoint.tls.verify


def test_ca_for_a_loopback_host_means_tls() -> None:
    (endpoint,) = Endpoints([RegistryConfig("localhost:5000", ca_file="/ca.crt")]).of("localhost:5000")
    assert endpoint.urls == ("https://localhost:5000",)
    assert endpoint.tls.verify
    assert endpoint.tls.ca_files == (Path("/ca.crt"),)


def test_certificates_come_from_the_hosts_directory(tmp_path: Path) -> None:
    directory = tmp_path / "reg.example:5000"
    directory.mkdir()
    for name in ("ca.crt", "client.cert", "client.key", "lonely.cert"):
        (directory / name).touch()
    (endpoint,) = Endpoints(certs_dirs=[tmp_path / "absent", tmp_path]).of("reg.example:5000")
    assert endpoint.tls.ca_files == (directory / "ca.crt",)
    assert endpoint.tls.client_certificate == directory / "client.cert"
    assert endpoint.tls.client_key == directory / "client.key"


def test_mirrors_come_first_with_their_own_credentials() -> None:
    mirrors = (MirrorConfig("https://one.example/", "m", "secret"), MirrorConfig("http://two.example:5000/prefix"))
    first, second, last = Endpoints([RegistryConfig("docker.io", mirrors=mirrors)]).of("docker.io", ALICE)
    assert (first.urls, first.credentials) == (("https://one.example",), Credentials("m", "secret"))
    assert (second.urls, second.credentials) == (("http://two.example:5000/prefix",), ANONYMOUS)
    assert last.credentials == ALICE
    assert (first.mirror, second.mirror, last.mirror) == (True, True, False)


@pytest.mark.parametrize("name", ["", "docker.io", "index.docker.io", "https://index.docker.io/v1/"])
def test_login_knows_dockers_own_registry_by_all_its_names(name: str) -> None:
    endpoint = Endpoints(docker_io_host="hub.example").login(name, ALICE)
    assert endpoint.urls == ("https://hub.example",)


def test_login_takes_an_address_with_a_scheme() -> None:
    assert Endpoints().login("https://reg.example/v2/", ALICE).urls == ("https://reg.example",)


@pytest.mark.parametrize("name", ["not a host", "a/../b c", "..", "reg.example:port"])
def test_login_refuses_what_is_no_host(name: str) -> None:
    with pytest.raises(InvalidArgumentError):
        Endpoints().login(name, ALICE)


@pytest.mark.parametrize(
    "url", ["one.example", "ftp://one.example", "https://u:p@one.example", "https://one.example?x"]
)
def test_mirror_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="expected http"):
        Endpoints([RegistryConfig("docker.io", mirrors=(MirrorConfig(url),))])


def test_registry_configured_twice_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="configured twice"):
        Endpoints([RegistryConfig("docker.io"), RegistryConfig("docker.io")])


def test_a_new_configuration_takes_the_place_of_the_former() -> None:
    endpoints = Endpoints([RegistryConfig("reg.example", insecure=True)])
    mirror = MirrorConfig("https://mirror.example")
    endpoints.become(Endpoints([RegistryConfig("docker.io", mirrors=(mirror,))], insecure_networks=("10.0.0.0/8",)))
    assert endpoints.of("docker.io")[0].urls == ("https://mirror.example",)
    assert [endpoint.tls.verify for endpoint in endpoints.of("reg.example")] == [True]
    assert [endpoint.tls.verify for endpoint in endpoints.of("10.1.1.1")] == [False]
