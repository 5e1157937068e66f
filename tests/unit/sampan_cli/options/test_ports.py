import pytest

from sampan.errors import InvalidArgumentError
from sampan.resource.container_spec import PortBinding
from sampan_cli.options.ports import parse_publish


@pytest.mark.parametrize(
    ("text", "publications"),
    [
        ("80", [PortBinding(80, "tcp")]),
        ("8080:80", [PortBinding(80, "tcp", "", 8080)]),
        ("53:53/udp", [PortBinding(53, "udp", "", 53)]),
        ("127.0.0.1:8080:80", [PortBinding(80, "tcp", "127.0.0.1", 8080)]),
        ("127.0.0.1::80", [PortBinding(80, "tcp", "127.0.0.1")]),
        ("[::1]:8080:80", [PortBinding(80, "tcp", "::1", 8080)]),
        ("::1:8080:80", [PortBinding(80, "tcp", "::1", 8080)]),
        ("8000-8001:80-81", [PortBinding(80, "tcp", "", 8000), PortBinding(81, "tcp", "", 8001)]),
        ("8000-8010:80", [PortBinding(80, "tcp", "", 8000, 8010)]),
        ("80-81/TCP", [PortBinding(80, "tcp"), PortBinding(81, "tcp")]),
        ("published=8080,target=80,protocol=udp", [PortBinding(80, "udp", "", 8080)]),
    ],
)
def test_publish_pairs_ports(text: str, publications: list[PortBinding]) -> None:
    assert parse_publish(text) == publications


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no port specified: <empty>"),
        ("8080:", "no port specified"),
        ("x:80", 'invalid port specification: "x"'),
        ("80:x", 'invalid port specification: "x"'),
        ("80:70000", 'invalid port specification: "70000"'),
        ("81-80", 'invalid port specification: "81-80"'),
        ("80/foo", "invalid proto: foo"),
        ("localhost:80:80", "invalid IP address: localhost"),
        ("8000-8002:80-81", "invalid ranges specified for container and host Ports: 80-81 and 8000-8002"),
        ("[::1:80", "invalid IP address"),
        ("published=80,what=1", "invalid publish opts format"),
    ],
)
def test_bad_publish_is_refused_in_dockers_words(text: str, words: str) -> None:
    with pytest.raises(InvalidArgumentError, match=words.replace("[", r"\[")):
        parse_publish(text)
