"""How kubelet logs in at registries."""

import base64

import pytest

from crid.images.model import Auth
from sampan.errors import InvalidArgumentError
from sampan.oci.reference import parse_reference
from sampan.resource.image import Credentials

HUB = parse_reference("debian:12")
OWN = parse_reference("Reg.lan:5000/a:1")


@pytest.mark.parametrize(
    ("auth", "credentials"),
    [
        (Auth(), None),
        (Auth("me", "secret"), Credentials("me", "secret")),
        (Auth(auth=base64.b64encode(b"me:a:b").decode()), Credentials("me", "a:b")),
        (Auth(auth=base64.b64encode(b"me:secret\0\0").decode()), Credentials("me", "secret")),
        (Auth("me", "secret", auth=base64.b64encode(b"other:x").decode()), Credentials("me", "secret")),
        (Auth(identity_token="token"), Credentials(identity_token="token")),
        (Auth(registry_token="token"), Credentials(registry_token="token")),
    ],
)
def test_each_way_to_log_in_is_understood(auth: Auth, credentials: Credentials | None) -> None:
    assert auth.credentials(HUB) == credentials


@pytest.mark.parametrize(
    "address", ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "https://registry-1.docker.io", ""]
)
def test_dockers_own_registry_has_many_addresses(address: str) -> None:
    assert Auth("me", "secret", server_address=address).credentials(HUB) == Credentials("me", "secret")


@pytest.mark.parametrize("address", ["reg.lan:5000", "http://reg.lan:5000/v2/", "REG.LAN:5000/a"])
def test_another_registry_is_known_by_its_host(address: str) -> None:
    auth = Auth("me", "secret", server_address=address)
    assert auth.credentials(OWN) == Credentials("me", "secret")
    assert auth.credentials(HUB) is None


@pytest.mark.parametrize("text", ["not base64!", base64.b64encode(b"nocolon").decode(), "/w==", "abcde"])
def test_an_auth_that_says_nothing_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="NAME:PASSWORD") as raised:
        Auth(auth=text).credentials(HUB)
    assert text not in str(raised.value)


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(Auth("me", "secret", "secret", "", "secret", "secret"))
